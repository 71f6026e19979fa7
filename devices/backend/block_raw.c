/*
 * Raw images: a regular file or block device whose bytes are the disk's. In: a path. The image is
 * locked as a whole (open file description locks: readers share, a writer is alone), so that two
 * guests, or this and QEMU, do not write one file system at the same time.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "devices/backend/block_internal.h"
#include "vmm/log.h"

struct raw {
	struct block block;
	struct block_file file;
};

static struct raw *raw_of(struct block *b)
{
	return (struct raw *)b; /* first member */
}

/* ---- requests -------------------------------------------------------------------------------- */

static int raw_read(struct block *b, const struct block_request *r, unsigned flags)
{
	return block_file_readv(&raw_of(b)->file, r->iov, r->niov, r->offset,
				flags & BLOCK_NOWAIT ? RWF_NOWAIT : 0);
}

static int raw_write(struct block *b, const struct block_request *r, unsigned flags)
{
	return block_file_writev(&raw_of(b)->file, r->iov, r->niov, r->offset,
				 (flags & BLOCK_NOWAIT ? RWF_NOWAIT : 0) |
					 (r->stable ? RWF_DSYNC : 0));
}

static int raw_flush(struct block *b)
{
	return b->info.read_only ? 0 : block_file_sync(&raw_of(b)->file);
}

static int raw_discard(struct block *b, const struct block_request *r)
{
	int err = block_file_punch(&raw_of(b)->file, r->offset, r->length);

	return err == -EOPNOTSUPP ? 0 : err; /* a hint */
}

static int raw_write_zeroes(struct block *b, const struct block_request *r)
{
	int err = -EOPNOTSUPP;

	if (r->unmap)
		err = block_file_punch(&raw_of(b)->file, r->offset, r->length);
	return err == -EOPNOTSUPP ? block_file_zero(&raw_of(b)->file, r->offset, r->length) : err;
}

static void raw_account(struct block *b, struct account *account)
{
	raw_of(b)->file.account = account;
}

static bool raw_map(struct block *b, const struct block_request *r, struct block_extent *x)
{
	(void)b;
	x->offset = r->offset;
	return true;
}

/* ---- opening --------------------------------------------------------------------------------- */

static void raw_close(struct block *b)
{
	block_file_close(&raw_of(b)->file);
	free(b);
}

static const struct block_format_ops raw_ops = {
	.read = raw_read,
	.write = raw_write,
	.flush = raw_flush,
	.discard = raw_discard,
	.write_zeroes = raw_write_zeroes,
	.close = raw_close,
	.account = raw_account,
	.map = raw_map,
};

static void file_geometry(struct raw *raw)
{
	struct block_info *info = &raw->block.info;

	info->logical_block = BLOCK_SECTOR;
	info->physical_block = 4096;
	/* A hole behind the end changes nothing and tells whether there can be any. */
	if (!info->read_only)
		info->can_discard =
			block_file_punch(&raw->file, (info->size + 4095) & ~4095ull, 4096) == 0;
}

static int device_geometry(struct raw *raw)
{
	struct block_info *info = &raw->block.info;
	unsigned physical = 0;
	int logical = 0, ro = 0, fd = raw->file.fd;

	if (ioctl(fd, BLKSSZGET, &logical) < 0)
		return -errno;
	if (logical < (int)BLOCK_SECTOR || (logical & (logical - 1)))
		return -EINVAL;
	info->logical_block = (uint32_t)logical;
	if (ioctl(fd, BLKPBSZGET, &physical) < 0 || physical < info->logical_block)
		physical = info->logical_block;
	info->physical_block = physical;
	if (ioctl(fd, BLKROGET, &ro) == 0 && ro)
		info->read_only = true;
	info->can_discard = !info->read_only;
	return 0;
}

static int raw_set_up(struct raw *raw, const struct block_config *config, struct error *e)
{
	struct block_info *info = &raw->block.info;
	uint64_t ragged;
	int err = 0;

	info->read_only = config->read_only;
	info->size = raw->file.size;
	if (raw->file.is_device)
		err = device_geometry(raw);
	else
		file_geometry(raw);
	if (err)
		return error_set_errno(e, err, "cannot learn the size of %s", config->path);
	info->can_write_zeroes = !info->read_only;
	ragged = info->size % info->logical_block;
	info->size -= ragged;
	if (info->size == 0)
		return error_set(e, -EINVAL, "%s is %s; a disk has at least one sector of %u bytes",
				 config->path, ragged ? "too small" : "empty", info->logical_block);
	if (ragged)
		log_warn("%s: its last %llu bytes are no whole sector; the guest does not see them",
			 config->path, (unsigned long long)ragged);
	return 0;
}

int block_raw_open(struct block **out, const struct block_config *config, struct error *e)
{
	struct raw *raw = calloc(1, sizeof(*raw));
	int err;

	if (!raw)
		return error_set(e, -ENOMEM, "out of memory");
	raw->block.ops = &raw_ops;
	err = block_file_open(&raw->file, config->path, config->read_only, config->cache, e);
	if (!err) {
		raw->file.strict = true;
		raw->block.in_memory = raw->file.in_memory;
		raw->block.file = &raw->file;
		raw->block.flush_is_sync = true;
		err = raw_set_up(raw, config, e);
	}
	if (err) {
		raw_close(&raw->block);
		return err;
	}
	*out = &raw->block;
	return 0;
}
