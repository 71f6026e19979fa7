/*
 * Violations of a device's rules, one by one: a victim (a disk) is brought up, something is done to
 * it that no driver may do, and then three things must hold: it says that it needs a reset if it
 * should, a bystander (an entropy device) works throughout, and after a reset the victim works too.
 */
#ifndef GUEST_VIOLATION_H
#define GUEST_VIOLATION_H

#include "virtio.h"

enum outcome {
	BREAKS,	 /* DEVICE_NEEDS_RESET */
	IGNORED, /* goes on as if nothing had happened: a request works without a reset */
	ANYTHING /* both are right */
};

enum stage {
	RUNNING, /* DRIVER_OK */
	READY,	 /* queue set up, DRIVER_OK to come */
	AGREED,	 /* FEATURES_OK, no queue set up */
	RESET	 /* status 0 */
};

struct violation {
	const char *name;
	void (*commit)(void);
	enum outcome outcome;
	enum stage stage;
	uint64_t features; /* to negotiate besides VERSION_1 */
};

extern struct virtio victim;
extern struct vq victim_queue; /* split, of VICTIM_QUEUE descriptors */
#define VICTIM_QUEUE   16
#define VICTIM_SECTORS 2048

/* A page that a violation may use as it likes, zeroed before each. */
extern uint8_t *page;
/* A read of one sector that is right in all parts: descriptors 0, 1 and 2, not offered yet. */
void good_request(void);
/* Offers a head and kicks. */
void offer(uint16_t head);

/* Finds both devices; false if one is missing. */
bool violations_begin(void);
void violations_run(const struct violation *list, unsigned n);

#endif
