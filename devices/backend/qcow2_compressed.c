/*
 * Reading compressed clusters of a qcow2 image: raw deflate (RFC 1951), one stream a cluster. The
 * cluster read last is kept, for guests read less than a cluster at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#include "devices/backend/qcow2_impl.h"

/* Exactly one cluster must come out. */
static int expand(struct qcow2 *q, const uint8_t *in, uint64_t len, uint8_t *out)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)in,
		       .avail_in = (uInt)len,
		       .next_out = out,
		       .avail_out = (uInt)q->cluster };
	int ret;

	if (inflateInit2(&z, -15) != Z_OK)
		return -ENOMEM;
	ret = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	/* Z_BUF_ERROR: a stream without its end, but the cluster is all there. */
	if ((ret == Z_STREAM_END || ret == Z_BUF_ERROR) && z.avail_out == 0)
		return 0;
	return ret == Z_MEM_ERROR ? -ENOMEM : -EIO;
}

static int load(struct qcow2 *q, uint64_t entry, uint8_t *out)
{
	uint64_t offset, len;
	uint8_t *in;
	int err;

	qcow2_compressed_place(q, entry, &offset, &len);
	in = malloc(len); /* at most two clusters */
	if (!in)
		return -ENOMEM;
	err = block_file_read(&q->file, in, len, offset);
	if (!err)
		err = expand(q, in, len, out);
	free(in);
	return err == -EIO ? qcow2_damaged(q, "compressed cluster", offset) : err;
}

int qcow2_read_compressed(struct qcow2 *q, uint64_t entry, uint64_t from, size_t len,
			  struct iov_cursor *to)
{
	uint8_t *out;
	int err;

	pthread_mutex_lock(&q->expanded_lock);
	if (q->expanded_entry == entry && q->expanded) {
		iov_cursor_fill(to, q->expanded + from, len);
		pthread_mutex_unlock(&q->expanded_lock);
		return 0;
	}
	pthread_mutex_unlock(&q->expanded_lock);

	out = malloc(q->cluster);
	if (!out)
		return -ENOMEM;
	err = load(q, entry, out);
	if (!err) {
		iov_cursor_fill(to, out + from, len);
		pthread_mutex_lock(&q->expanded_lock);
		uint8_t *old = q->expanded;
		q->expanded = out;
		q->expanded_entry = entry;
		pthread_mutex_unlock(&q->expanded_lock);
		out = old;
	}
	free(out);
	return err;
}
