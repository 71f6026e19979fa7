/*
 * The table of internal snapshots (QEMU's docs/interop/qcow2.txt, "Snapshots"). We neither make nor
 * load any; but nobody may write over the table, and rebuilding counts needs their L1 tables.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/backend/qcow2_impl.h"

#define MAX_TABLE (64u << 20)
#define MAX_EXTRA 1024u

struct raw_snapshot {
	uint64_t l1_offset;
	uint32_t l1_size;
	uint16_t id_size, name_size;
	uint32_t seconds, nanoseconds;
	uint64_t vm_clock;
	uint32_t vm_state_size, extra_size;
} __attribute__((packed));

_Static_assert(sizeof(struct raw_snapshot) == 40, "qcow2 snapshot entry layout");

int qcow2_snapshots(struct qcow2 *q, struct qcow2_snapshot **list, uint64_t *bytes, struct error *e)
{
	uint64_t at = q->header.snapshots_offset;
	struct raw_snapshot raw;

	*bytes = 0;
	if (list)
		*list = NULL;
	if (q->header.nb_snapshots == 0)
		return 0;
	if (list) {
		*list = calloc(q->header.nb_snapshots, sizeof(**list));
		if (!*list)
			return error_set(e, -ENOMEM, "out of memory");
	}
	for (uint32_t i = 0; i < q->header.nb_snapshots; i++) {
		uint32_t extra;
		int err = block_file_read(&q->file, &raw, sizeof(raw), at + *bytes);

		if (err)
			return error_set_errno(e, err, "cannot read its snapshot table");
		extra = be32toh(raw.extra_size);
		*bytes += sizeof(raw) + extra + be16toh(raw.id_size) + be16toh(raw.name_size);
		if (extra > MAX_EXTRA || *bytes > MAX_TABLE || *bytes > q->file.size - at)
			return error_set(e, -EINVAL, "has a damaged snapshot table");
		*bytes = (*bytes + 7) & ~7ull; /* not in the file behind the last one */
		if (list)
			(*list)[i] = (struct qcow2_snapshot){ be64toh(raw.l1_offset),
							      be32toh(raw.l1_size) };
	}
	return 0;
}
