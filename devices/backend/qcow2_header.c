/*
 * Reading qcow2 headers: see qcow2_header.h. Every size and offset is somebody else's word: nothing
 * is added to anything before it has been compared with the file's size.
 */
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/backend/qcow2_header.h"

#define MAGIC 0x514649fbu /* "QFI\xfb" */

#define V2_LENGTH 72u
#define V3_LENGTH 104u

#define INCOMPAT_EXTERNAL_DATA (1ull << 2)
#define INCOMPAT_COMPRESSION   (1ull << 3)
#define INCOMPAT_EXTENDED_L2   (1ull << 4)

#define EXTENSION_END	     0u
#define EXTENSION_BACKING    0xe2792acau
#define EXTENSION_FEATURES   0x6803f857u
#define EXTENSION_BITMAPS    0x23852875u
#define FEATURE_ENTRY	     48u
#define FEATURE_NAME	     46u
#define FEATURE_INCOMPATIBLE 0u

struct raw_header {
	uint32_t magic, version;
	uint64_t backing_offset;
	uint32_t backing_size, cluster_bits;
	uint64_t size;
	uint32_t crypt_method, l1_size;
	uint64_t l1_offset, reftable_offset;
	uint32_t reftable_clusters, nb_snapshots;
	uint64_t snapshots_offset;
	/* Version 3: */
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order, header_length;
	uint8_t compression_type;
} __attribute__((packed));

_Static_assert(sizeof(struct raw_header) == V3_LENGTH + 1, "qcow2 header layout");

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

/* What is being read: the first cluster. */
struct reader {
	const uint8_t *bytes;
	size_t len;
	uint64_t file_size;
	struct raw_header raw; /* still big-endian */
	uint32_t header_length;
	/* The feature name table, if there is one. */
	const uint8_t *features;
	size_t features_len;
};

int qcow2_header_cluster_bits(const uint8_t *bytes, size_t len, uint32_t *bits, struct error *e)
{
	if (len < V2_LENGTH || get32(bytes) != MAGIC)
		return error_set(e, -EINVAL, "is no qcow2 image (format=raw takes it as it is)");
	*bits = get32(bytes + offsetof(struct raw_header, cluster_bits));
	if (*bits < QCOW2_MIN_CLUSTER_BITS || *bits > QCOW2_MAX_CLUSTER_BITS)
		return error_set(e, -EINVAL, "has clusters of 2^%u bytes; 2^%u to 2^%u can be read",
				 *bits, QCOW2_MIN_CLUSTER_BITS, QCOW2_MAX_CLUSTER_BITS);
	return 0;
}

/* ---- fixed fields ---------------------------------------------------------------------------- */

static int parse_fields(struct qcow2_header *h, struct reader *r, struct error *e)
{
	const struct raw_header *raw = &r->raw;

	memcpy(&r->raw, r->bytes, r->len < sizeof(r->raw) ? r->len : sizeof(r->raw));
	h->version = be32toh(raw->version);
	if (h->version != 2 && h->version != 3)
		return error_set(e, -ENOTSUP, "is qcow version %u; 2 and 3 can be read",
				 h->version);
	h->size = be64toh(raw->size);
	h->l1_offset = be64toh(raw->l1_offset);
	h->l1_size = be32toh(raw->l1_size);
	h->reftable_offset = be64toh(raw->reftable_offset);
	h->reftable_clusters = be32toh(raw->reftable_clusters);
	h->snapshots_offset = be64toh(raw->snapshots_offset);
	h->nb_snapshots = be32toh(raw->nb_snapshots);
	h->refcount_order = 4;
	r->header_length = V2_LENGTH;
	if (h->version == 2)
		return 0;
	if (r->len < V3_LENGTH)
		return error_set(e, -EINVAL, "ends inside its header");
	h->incompatible = be64toh(raw->incompatible);
	h->compatible = be64toh(raw->compatible);
	h->autoclear = be64toh(raw->autoclear);
	h->refcount_order = be32toh(raw->refcount_order);
	r->header_length = be32toh(raw->header_length);
	if (h->refcount_order > 6)
		return error_set(e, -EINVAL, "has reference counts of 2^%u bits; at most 2^6 exist",
				 h->refcount_order);
	if (r->header_length < V3_LENGTH || r->header_length % 8 || r->header_length > r->len)
		return error_set(e, -EINVAL, "says that its header has %u bytes, which cannot be",
				 r->header_length);
	return 0;
}

/* ---- extensions ------------------------------------------------------------------------------ */

static int take_extension(struct qcow2_header *h, struct reader *r, uint32_t type,
			  const uint8_t *data, uint32_t len, struct error *e)
{
	switch (type) {
	case EXTENSION_BACKING:
		if (len >= sizeof(h->backing_format) || memchr(data, 0, len))
			return error_set(e, -EINVAL, "states no valid format for its backing file");
		memcpy(h->backing_format, data, len);
		h->backing_format[len] = '\0';
		break;
	case EXTENSION_FEATURES:
		r->features = data;
		r->features_len = len;
		break;
	case EXTENSION_BITMAPS:
		h->has_bitmaps = true;
		break;
	default:
		break; /* "can be safely ignored" */
	}
	return 0;
}

static int parse_extensions(struct qcow2_header *h, struct reader *r, struct error *e)
{
	uint64_t backing = be64toh(r->raw.backing_offset);
	size_t end = backing && backing < r->len ? backing : r->len;
	size_t at = r->header_length;

	while (at + 8 <= end) {
		uint32_t type = get32(r->bytes + at), len = get32(r->bytes + at + 4);
		int err;

		if (type == EXTENSION_END)
			break;
		at += 8;
		if (len > end - at)
			return error_set(e, -EINVAL, "has a header extension that does not fit");
		err = take_extension(h, r, type, r->bytes + at, len, e);
		if (err)
			return err;
		at += ((size_t)len + 7) & ~(size_t)7;
	}
	return 0;
}

static int parse_backing(struct qcow2_header *h, const struct reader *r, struct error *e)
{
	uint64_t offset = be64toh(r->raw.backing_offset);
	uint32_t size = be32toh(r->raw.backing_size);

	if (offset == 0)
		return 0;
	if (size == 0 || size >= sizeof(h->backing_name))
		return error_set(e, -EINVAL,
				 "has a backing file name of %u bytes; 1 to 1023 can be", size);
	if (offset < r->header_length || offset > r->len || size > r->len - offset)
		return error_set(e, -EINVAL, "has its backing file's name outside of the header");
	memcpy(h->backing_name, r->bytes + offset, size);
	h->backing_name[size] = '\0';
	if (strlen(h->backing_name) != size)
		return error_set(e, -EINVAL, "has a backing file name with a zero byte in it");
	h->has_backing = true;
	return 0;
}

/* ---- features -------------------------------------------------------------------------------- */

/* The image's own name for a feature, made printable; "bit N" if it has none. */
static void feature_name(const struct reader *r, unsigned bit, char *out, size_t size)
{
	for (size_t at = 0; at + FEATURE_ENTRY <= r->features_len; at += FEATURE_ENTRY) {
		const uint8_t *entry = r->features + at;
		size_t n = 0;

		if (entry[0] != FEATURE_INCOMPATIBLE || entry[1] != bit)
			continue;
		while (n < FEATURE_NAME && n + 1 < size && entry[2 + n]) {
			out[n] = isprint(entry[2 + n]) ? (char)entry[2 + n] : '?';
			n++;
		}
		out[n] = '\0';
		if (n)
			return;
	}
	snprintf(out, size, "bit %u", bit);
}

static int check_features(const struct qcow2_header *h, const struct reader *r, struct error *e)
{
	uint64_t unknown = h->incompatible &
			   ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT |
			     INCOMPAT_EXTERNAL_DATA | INCOMPAT_COMPRESSION | INCOMPAT_EXTENDED_L2);
	uint32_t crypt = be32toh(r->raw.crypt_method);
	char name[FEATURE_NAME + 1];

	if (unknown) {
		feature_name(r, (unsigned)__builtin_ctzll(unknown), name, sizeof(name));
		return error_set(e, -ENOTSUP, "needs a feature that mvm does not know: %s", name);
	}
	if (crypt)
		return error_set(e, -ENOTSUP, "is encrypted (%s), which mvm cannot read",
				 crypt == 1   ? "AES"
				 : crypt == 2 ? "LUKS"
					      : "by an unknown method");
	if (h->incompatible & INCOMPAT_EXTERNAL_DATA)
		return error_set(e, -ENOTSUP,
				 "keeps its data in another file, which mvm cannot read");
	if (h->incompatible & INCOMPAT_EXTENDED_L2)
		return error_set(e, -ENOTSUP,
				 "has extended L2 entries (subclusters), which mvm cannot read");
	if (h->incompatible & INCOMPAT_COMPRESSION)
		return error_set(e, -ENOTSUP,
				 "is compressed by another method than zlib (%s), which mvm cannot "
				 "read; qemu-img convert makes one that it can",
				 r->header_length > V3_LENGTH && r->raw.compression_type == 1
					 ? "zstd"
					 : "unknown");
	if (r->header_length > V3_LENGTH && r->len > V3_LENGTH && r->raw.compression_type)
		return error_set(e, -EINVAL, "names a compression type without saying so");
	return 0;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static int check_table(const char *what, const struct qcow2_header *h, const struct reader *r,
		       uint64_t offset, uint64_t bytes, struct error *e)
{
	if (offset & ((1ull << h->cluster_bits) - 1))
		return error_set(e, -EINVAL, "has its %s at 0x%llx, not at a cluster's begin", what,
				 (unsigned long long)offset);
	if (offset == 0 || offset > r->file_size || bytes > r->file_size - offset)
		return error_set(e, -EINVAL, "has its %s (0x%llx bytes at 0x%llx) outside the file",
				 what, (unsigned long long)bytes, (unsigned long long)offset);
	return 0;
}

/* How many L1 entries a disk of this size needs. */
static uint64_t l1_needed(const struct qcow2_header *h)
{
	unsigned shift = h->cluster_bits + (h->cluster_bits - 3); /* what one L2 table describes */

	return (h->size >> shift) + ((h->size & ((1ull << shift) - 1)) ? 1 : 0);
}

static int check_tables(const struct qcow2_header *h, const struct reader *r, struct error *e)
{
	uint64_t l1 = (uint64_t)h->l1_size * 8;
	uint64_t reftable = (uint64_t)h->reftable_clusters << h->cluster_bits;
	int err;

	if (h->size > INT64_MAX)
		return error_set(e, -EINVAL, "is larger than a disk can be");
	if (l1 > QCOW2_MAX_L1_BYTES)
		return error_set(e, -EINVAL,
				 "has an L1 table of %llu bytes; at most %u can be used",
				 (unsigned long long)l1, QCOW2_MAX_L1_BYTES);
	if (h->l1_size < l1_needed(h))
		return error_set(e, -EINVAL, "has an L1 table of %u entries; its size needs %llu",
				 h->l1_size, (unsigned long long)l1_needed(h));
	if (h->reftable_clusters == 0 || reftable > QCOW2_MAX_REFTABLE)
		return error_set(e, -EINVAL,
				 "has a refcount table of %u clusters; 1 to %u bytes can be used",
				 h->reftable_clusters, QCOW2_MAX_REFTABLE);
	err = l1 ? check_table("L1 table", h, r, h->l1_offset, l1, e) : 0;
	if (!err)
		err = check_table("refcount table", h, r, h->reftable_offset, reftable, e);
	if (err)
		return err;
	if (l1 && h->l1_offset < h->reftable_offset + reftable &&
	    h->reftable_offset < h->l1_offset + l1)
		return error_set(e, -EINVAL, "has its L1 and refcount tables in the same place");
	if (h->nb_snapshots > QCOW2_MAX_SNAPSHOTS)
		return error_set(e, -EINVAL, "has %u snapshots; at most %u can be", h->nb_snapshots,
				 QCOW2_MAX_SNAPSHOTS);
	/* 40 bytes are the least an entry has. */
	return h->nb_snapshots ? check_table("snapshot table", h, r, h->snapshots_offset,
					     40ull * h->nb_snapshots, e)
			       : 0;
}

int qcow2_header_parse(struct qcow2_header *h, const uint8_t *bytes, size_t len, uint64_t file_size,
		       struct error *e)
{
	struct reader r = { .bytes = bytes, .len = len, .file_size = file_size };
	int err;

	memset(h, 0, sizeof(*h));
	err = qcow2_header_cluster_bits(bytes, len, &h->cluster_bits, e);
	if (!err && r.len > 1ull << h->cluster_bits)
		r.len = 1ull << h->cluster_bits;
	if (!err)
		err = parse_fields(h, &r, e);
	if (!err)
		err = parse_extensions(h, &r, e);
	if (!err)
		err = check_features(h, &r, e);
	if (!err)
		err = parse_backing(h, &r, e);
	if (!err)
		err = check_tables(h, &r, e);
	return err;
}
