/*
 * What an emulated device needs around it, without KVM: port bus, recording interrupt chip, an
 * event loop on a thread, and a machine that notes requests. The test's own thread plays the vCPU.
 */
#ifndef TESTS_UNIT_EMULATED_RIG_H
#define TESTS_UNIT_EMULATED_RIG_H

#include <pthread.h>

#include "devices/device.h"
#include "tests/unit/fake_chip.h"

struct em_rig {
	struct device_host host; /* first */
	struct fake_chip chip;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t asked;
	enum machine_request request; /* the last one */
	unsigned requests;
};

void em_open(struct em_rig *rig);
/* After all devices are destroyed. */
void em_close(struct em_rig *rig);

/* Creates the index-th device of a row; fails the test if that fails. */
struct device *em_device(struct em_rig *rig, const struct device_row *row, unsigned index,
			 const char *target);
/* Expects it to fail; the message, in a static buffer. */
const char *em_device_fails(struct em_rig *rig, const struct device_row *row, unsigned index,
			    const char *target);
void em_destroy(struct device *dev);

uint8_t em_in(struct em_rig *rig, uint64_t port);
void em_out(struct em_rig *rig, uint64_t port, uint8_t value);
/* The level of an interrupt line, now. */
bool em_line(struct em_rig *rig, unsigned gsi);

/* The last request, or REQUEST_NONE; and waiting for one. */
enum machine_request em_request(struct em_rig *rig);
enum machine_request em_wait_request(struct em_rig *rig);

/* Reads and writes of every width with every value in every order, at [base, base + size). */
void em_torment(struct em_rig *rig, uint64_t base, uint64_t size, unsigned steps);

#endif
