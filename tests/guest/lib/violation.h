/*
 * Violations of a device's rules, one by one: a victim (a disk) is brought up, something is done to
 * it that no driver may do, and then three things must hold: it says that it needs a reset, with an
 * interrupt, if it should; a bystander (an entropy device) works throughout; and after a reset the
 * victim works too. Each is written once, for both transports and both rings; what only one of them
 * has says so.
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

/* Where it can be committed at all; nothing said: everywhere. */
#define ON_SPLIT  1u
#define ON_PACKED 2u
#define ON_PCI	  4u
#define ON_MMIO	  8u

struct violation {
	const char *name;
	void (*commit)(void);
	enum outcome outcome;
	enum stage stage;
	uint64_t features; /* to negotiate besides VERSION_1 and the ring's */
	unsigned only;
};

extern struct virtio victim;
extern struct vq victim_queue; /* of VICTIM_QUEUE descriptors */
#define VICTIM_QUEUE   16
#define VICTIM_SECTORS 2048

/* A page that a violation may use as it likes, zeroed before each. */
extern uint8_t *page;
/* A chain to be damaged: see vq_lay(). */
extern struct vq_desc chain[VICTIM_QUEUE];
/* A read of one sector that is right in all parts: chain[0], [1] and [2]. */
void good_request(void);
/* Offers the first n of chain[] and kicks; the queue must not have been used since the reset. */
void offer(unsigned n);

/* Finds both devices; false if one is missing. */
bool violations_begin(void);
/* Those that are for this transport and ring. */
void violations_run(const struct violation *list, unsigned n);

#endif
