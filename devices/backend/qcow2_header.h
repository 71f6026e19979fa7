/*
 * The header of a qcow2 image, checked (QEMU's docs/interop/qcow2.txt, "Header"). In: the first
 * cluster's bytes and the file's size. Out: what they say, or why this cannot be used.
 */
#ifndef DEVICES_BACKEND_QCOW2_HEADER_H
#define DEVICES_BACKEND_QCOW2_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"

#define QCOW2_MIN_CLUSTER_BITS 9u
#define QCOW2_MAX_CLUSTER_BITS 21u
#define QCOW2_MAX_L1_BYTES     (32u << 20)
#define QCOW2_MAX_REFTABLE     (8u << 20) /* bytes */
#define QCOW2_MAX_SNAPSHOTS    65536u

#define QCOW2_INCOMPAT_DIRTY   (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT (1ull << 1)
#define QCOW2_COMPAT_LAZY      (1ull << 0)

/* Where fields are that we write. */
#define QCOW2_AT_REFTABLE  48u /* offset, then clusters */
#define QCOW2_AT_INCOMPAT  72u
#define QCOW2_AT_AUTOCLEAR 88u

struct qcow2_header {
	uint32_t version;
	uint32_t cluster_bits;
	uint64_t size;
	uint64_t l1_offset;
	uint32_t l1_size; /* entries */
	uint64_t reftable_offset;
	uint32_t reftable_clusters;
	uint64_t snapshots_offset;
	uint32_t nb_snapshots;
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order;
	bool has_bitmaps;
	bool has_backing;
	char backing_name[1024];
	char backing_format[16]; /* empty: not stated */
};

/* The cluster size, so that the caller knows how much to read; needs 24 bytes. -EINVAL if absurd.
 */
int qcow2_header_cluster_bits(const uint8_t *bytes, size_t len, uint32_t *bits, struct error *e);
/* bytes: the first cluster, as far as the file has it. */
int qcow2_header_parse(struct qcow2_header *h, const uint8_t *bytes, size_t len, uint64_t file_size,
		       struct error *e);

#endif
