/*
 * KVM's own statistics of a VM or a vCPU: exits by reason, halt polls, injected interrupts.
 * Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD: a file whose descriptors name and describe the
 * numbers in it, so what this kernel has is shown as it is.
 */
#ifndef VMM_KVM_STATS_H
#define VMM_KVM_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvm_stats {
	int fd; /* -1: this kernel has none */
	uint32_t count, name_size, data_offset;
	uint8_t *descriptors; /* as read */
	size_t descriptor_size;
	uint64_t *data; /* as read last */
	size_t data_size;
};

/* fd: a VM's or vCPU's, which must not be inside KVM_RUN. Never fails: there may be none. */
void kvm_stats_open(struct kvm_stats *s, int fd);
void kvm_stats_close(struct kvm_stats *s);

struct kvm_stat {
	const char *name;
	const char *unit; /* "", "bytes", "seconds", "cycles" */
	bool boolean;
	int exponent;	/* of 10 (of 2 for bytes) */
	unsigned count; /* numbers: 1, or the buckets of a histogram */
	bool linear;	/* histogram with buckets of one size; else powers of two */
	uint32_t bucket;
	const uint64_t *value;
};

/* Reads them all; calls fn for each. 0 or -errno. Any thread, one at a time. */
int kvm_stats_read(struct kvm_stats *s, void (*fn)(const struct kvm_stat *stat, void *arg),
		   void *arg);

#endif
