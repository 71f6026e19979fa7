/* Between account.c and account_task.c. */
#ifndef VMM_ACCOUNT_INTERNAL_H
#define VMM_ACCOUNT_INTERNAL_H

#include "vmm/account.h"

#define SLOT_WORDS ((ACCOUNT_SLOTS + 63) / 64)

struct accounts {
	struct ticks ticks;
	struct account *first, **last; /* only grow, on the main thread, before threads run */
	unsigned count;
	/* Guards slots, and every account's watches, tasks and ended_ns; a leaf. */
	pthread_mutex_t lock;
	uint64_t taken[SLOT_WORDS]; /* slots that threads have; slot 0 is nobody's */
};

struct account_watch {
	struct account_watch *next;
	int fd;
};

void account_tasks_free(struct account *a);

#endif
