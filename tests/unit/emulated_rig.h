/*
 * What an emulated device needs around it, without KVM: port bus, recording interrupt chip, an
 * event loop on a thread, and a machine that notes requests. The test's own thread plays the vCPU.
 */
#ifndef TESTS_UNIT_EMULATED_RIG_H
#define TESTS_UNIT_EMULATED_RIG_H

#include <pthread.h>

#include "devices/device.h"
#include "tests/unit/fake_chip.h"

struct rig {
	struct device_host host; /* first */
	struct fake_chip chip;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t asked;
	enum machine_request request; /* the last one */
	unsigned requests;
};

void rig_open(struct rig *rig);
/* After all devices are destroyed. */
void rig_close(struct rig *rig);

/* Creates the index-th device of a row; fails the test if that fails. */
struct device *rig_device(struct rig *rig, const struct device_row *row, unsigned index,
			  const char *target);
/* Expects it to fail; the message, in a static buffer. */
const char *rig_device_fails(struct rig *rig, const struct device_row *row, unsigned index,
			     const char *target);
void rig_destroy(struct device *dev);

uint8_t rig_in(struct rig *rig, uint64_t port);
void rig_out(struct rig *rig, uint64_t port, uint8_t value);
/* The level of an interrupt line, now. */
bool rig_line(struct rig *rig, unsigned gsi);

/* The last request, or REQUEST_NONE; and waiting for one. */
enum machine_request rig_request(struct rig *rig);
enum machine_request rig_wait_request(struct rig *rig);

/* Reads and writes of every width with every value in every order, at [base, base + size). */
void rig_torment(struct rig *rig, uint64_t base, uint64_t size, unsigned steps);

#endif
