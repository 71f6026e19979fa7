/*
 * Telling what was counted: JSON at the end (--stats=FILE) and when asked to (SIGUSR1), a live
 * table (--stats-interval). Reads accounts (account.h), the vCPUs' counters and KVM's own
 * statistics; changes nothing.
 */
#ifndef VMM_STATS_H
#define VMM_STATS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/account.h"
#include "vmm/config.h"
#include "vmm/error.h"
#include "vmm/event.h"
#include "vmm/kvm.h"
#include "vmm/kvm_stats.h"
#include "vmm/vcpu.h"

/* Where the numbers are; all live longer than the stats. */
struct stats_source {
	struct accounts *accounts;
	const struct kvm *kvm;
	const struct vcpu_set *vcpus;
};

struct stats_table; /* the live one; stats_table.c */

struct stats {
	struct stats_source source;
	const char *path; /* NULL: SIGUSR1 writes to stderr */
	uint64_t start_ns;
	struct kvm_stats vm;
	struct kvm_stats *vcpu;
	unsigned nvcpus;
	struct event_source usr1;
	struct event_timer timer;
	uint64_t interval_ns; /* 0: no table */
	struct stats_table *table;
};

/*
 * From here on SIGUSR1 is ours: before any thread is started. Checks that the file can be written.
 * Zeroed memory; undone by stats_stop(), also after failure.
 */
int stats_start(struct stats *s, const struct config *config, struct event_loop *loop,
		const struct stats_source *source, struct error *e);
/* The vCPUs are made and none has run. */
void stats_attach(struct stats *s);
/* The machine has ended, with this exit status; everything is still there. Writes --stats. */
void stats_finish(struct stats *s, int status);
void stats_stop(struct stats *s);

/* ---- stats_json.c ---- */

/* why: "exit" or "signal"; status < 0: none yet. */
void stats_json(struct stats *s, const char *why, int status, FILE *out);

/* ---- stats_table.c ---- */

struct stats_table *stats_table_create(void); /* NULL: no memory */
void stats_table_destroy(struct stats_table *t);
/* What happened since the last call, on fd: see stats_table.c for how it looks where. */
void stats_table_show(struct stats_table *t, struct stats *s, int fd);
/* That text alone; tests. columns: of the terminal; rows: at most so many lines, 0: any number. */
void stats_table_text(struct stats_table *t, struct stats *s, FILE *out);

#endif
