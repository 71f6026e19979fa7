/*
 * Raw images: a regular file or block device whose bytes are the disk's. In: a path. The image is
 * locked as a whole (open file description locks: readers share, a writer is alone), so that two
 * guests, or this and QEMU, do not write one file system at the same time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/falloc.h>

#include "devices/backend/block_internal.h"
#include "vmm/log.h"

#define ZEROES_CHUNK (64u << 10) /* written at once where the file system cannot make zeroes */

struct raw {
	struct block block;
	int fd;
	bool cannot_zero; /* atomic: fallocate(2) refused once */
};

static struct raw *raw_of(struct block *b)
{
	return (struct raw *)b; /* first member */
}

/* ---- transfers ------------------------------------------------------------------------------- */

struct transfer {
	int fd;
	bool write;
	int flags; /* RWF_… */
	uint64_t offset;
};

/* One system call; bytes or -errno, never 0. */
static ssize_t transfer_some(const struct transfer *t, const struct iovec *iov, int niov)
{
	ssize_t n;

	do {
		n = t->write ? pwritev2(t->fd, iov, niov, (off_t)t->offset, t->flags)
			     : preadv2(t->fd, iov, niov, (off_t)t->offset, t->flags);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n ? n : -EIO; /* shorter than it was when we opened it */
}

/*
 * All of it. After a short transfer the rest of the iovec it ended in goes alone, then the
 * following ones as they are: no copy of the array is needed.
 */
static int transfer_all(struct transfer *t, const struct iovec *iov, int niov)
{
	size_t skip = 0;

	while (niov > 0) {
		struct iovec rest = { .iov_base = (uint8_t *)iov->iov_base + skip,
				      .iov_len = iov->iov_len - skip };
		ssize_t n = skip ? transfer_some(t, &rest, 1) : transfer_some(t, iov, niov);
		size_t left;

		if (n < 0)
			return (int)n;
		t->offset += (uint64_t)n;
		for (left = skip + (size_t)n; niov > 0 && left >= iov->iov_len; niov--, iov++)
			left -= iov->iov_len;
		skip = left;
		if (niov > 0 && (t->flags & RWF_NOWAIT))
			return -EAGAIN; /* the rest would wait */
	}
	return 0;
}

static int raw_read(struct block *b, const struct block_request *r, unsigned flags)
{
	struct transfer t = { .fd = raw_of(b)->fd, .offset = r->offset };

	t.flags = flags & BLOCK_NOWAIT ? RWF_NOWAIT : 0;
	return transfer_all(&t, r->iov, r->niov);
}

static int raw_write(struct block *b, const struct block_request *r, unsigned flags)
{
	struct transfer t = { .fd = raw_of(b)->fd, .write = true, .offset = r->offset };

	t.flags = (flags & BLOCK_NOWAIT ? RWF_NOWAIT : 0) | (r->stable ? RWF_DSYNC : 0);
	return transfer_all(&t, r->iov, r->niov);
}

static int raw_flush(struct block *b)
{
	int err;

	if (b->info.read_only)
		return 0;
	do {
		err = fdatasync(raw_of(b)->fd) < 0 ? -errno : 0;
	} while (err == -EINTR);
	return err;
}

/* ---- holes and zeroes ------------------------------------------------------------------------ */

static int allocate(const struct raw *raw, int mode, const struct block_request *r)
{
	int err;

	if (r->length == 0)
		return 0;
	do {
		err = fallocate(raw->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)r->offset,
				(off_t)r->length) < 0
			      ? -errno
			      : 0;
	} while (err == -EINTR);
	return err;
}

static int raw_discard(struct block *b, const struct block_request *r)
{
	int err = allocate(raw_of(b), FALLOC_FL_PUNCH_HOLE, r);

	return err == -EOPNOTSUPP ? 0 : err; /* a hint */
}

static int write_zeroes_by_hand(const struct raw *raw, const struct block_request *r)
{
	static const uint8_t zeroes[ZEROES_CHUNK];
	struct transfer t = { .fd = raw->fd, .write = true, .offset = r->offset };
	uint64_t left = r->length;

	while (left) {
		struct iovec iov = { .iov_base = (void *)(uintptr_t)zeroes,
				     .iov_len = left < ZEROES_CHUNK ? left : ZEROES_CHUNK };
		int err = transfer_all(&t, &iov, 1);

		if (err)
			return err;
		left -= iov.iov_len;
	}
	return 0;
}

static int raw_write_zeroes(struct block *b, const struct block_request *r)
{
	struct raw *raw = raw_of(b);
	int err = -EOPNOTSUPP;

	if (r->unmap)
		err = allocate(raw, FALLOC_FL_PUNCH_HOLE, r);
	if (err == -EOPNOTSUPP && !__atomic_load_n(&raw->cannot_zero, __ATOMIC_RELAXED))
		err = allocate(raw, FALLOC_FL_ZERO_RANGE, r);
	if (err != -EOPNOTSUPP)
		return err;
	__atomic_store_n(&raw->cannot_zero, true, __ATOMIC_RELAXED);
	return write_zeroes_by_hand(raw, r);
}

/* ---- opening --------------------------------------------------------------------------------- */

static void raw_close(struct block *b)
{
	close(raw_of(b)->fd); /* and with it the lock */
	free(b);
}

static const struct block_format_ops raw_ops = {
	.read = raw_read,
	.write = raw_write,
	.flush = raw_flush,
	.discard = raw_discard,
	.write_zeroes = raw_write_zeroes,
	.close = raw_close,
};

static const char *kind_of_file(mode_t mode)
{
	return S_ISDIR(mode)	? "a directory"
	       : S_ISFIFO(mode) ? "a fifo"
	       : S_ISSOCK(mode) ? "a socket"
	       : S_ISCHR(mode)	? "a character device"
				: "something else";
}

static int open_file(const struct block_config *config, struct stat *st, struct error *e)
{
	/* O_NONBLOCK: a fifo or a drive without a medium must not hold us up; then it goes. */
	int access = config->read_only ? O_RDONLY : O_RDWR;
	int fd = open(config->path, access | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int err = fd < 0 ? -errno : 0;

	if (err == -EISDIR)
		return error_set(e, err, "%s is a directory; an image is a file or block device",
				 config->path);
	if ((err == -EACCES || err == -EPERM || err == -EROFS) && !config->read_only)
		return error_set_errno(e, err, "cannot open %s for writing (ro=on reads it only)",
				       config->path);
	if (err)
		return error_set_errno(e, err, "cannot open %s", config->path);
	if (fstat(fd, st) < 0)
		err = error_set_errno(e, -errno, "cannot look at %s", config->path);
	else if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		err = error_set(e, -EINVAL, "%s is %s; an image is a file or block device",
				config->path, kind_of_file(st->st_mode));
	if (err) {
		close(fd);
		return err;
	}
	fcntl(fd, F_SETFL, 0);
	return fd;
}

static int lock_file(int fd, const struct block_config *config, struct error *e)
{
	struct flock lock = { .l_type = config->read_only ? F_RDLCK : F_WRLCK,
			      .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return error_set(e, -EBUSY, "%s is in use: another program or disk %s",
				 config->path, config->read_only ? "writes to it" : "has it open");
	log_warn("%s: its file system cannot lock it: nothing keeps others from writing to it",
		 config->path);
	return 0;
}

static int file_geometry(struct raw *raw, const struct stat *st)
{
	struct block_info *info = &raw->block.info;
	struct statfs fs;

	info->size = (uint64_t)st->st_size;
	info->logical_block = BLOCK_SECTOR;
	info->physical_block = 4096;
	if (fstatfs(raw->fd, &fs) == 0)
		raw->block.in_memory = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC ||
				       fs.f_type == HUGETLBFS_MAGIC;
	/* A hole behind the end changes nothing and tells whether there can be any. */
	if (!info->read_only)
		info->can_discard = fallocate(raw->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					      (off_t)((info->size + 4095) & ~4095ull), 4096) == 0;
	return 0;
}

static int device_geometry(struct raw *raw)
{
	struct block_info *info = &raw->block.info;
	unsigned physical = 0;
	int logical = 0, ro = 0;

	if (ioctl(raw->fd, BLKGETSIZE64, &info->size) < 0 ||
	    ioctl(raw->fd, BLKSSZGET, &logical) < 0)
		return -errno;
	if (logical < (int)BLOCK_SECTOR || (logical & (logical - 1)))
		return -EINVAL;
	info->logical_block = (uint32_t)logical;
	if (ioctl(raw->fd, BLKPBSZGET, &physical) < 0 || physical < info->logical_block)
		physical = info->logical_block;
	info->physical_block = physical;
	if (ioctl(raw->fd, BLKROGET, &ro) == 0 && ro)
		info->read_only = true;
	info->can_discard = !info->read_only;
	return 0;
}

static int raw_set_up(struct raw *raw, const struct block_config *config, const struct stat *st,
		      struct error *e)
{
	struct block_info *info = &raw->block.info;
	uint64_t ragged;
	int err = lock_file(raw->fd, config, e);

	if (err)
		return err;
	info->read_only = config->read_only;
	err = S_ISBLK(st->st_mode) ? device_geometry(raw) : file_geometry(raw, st);
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
	struct stat st;
	int err;

	if (!raw)
		return error_set(e, -ENOMEM, "out of memory");
	raw->block.ops = &raw_ops;
	raw->fd = open_file(config, &st, e);
	if (raw->fd < 0) {
		err = raw->fd;
		free(raw);
		return err;
	}
	err = raw_set_up(raw, config, &st, e);
	if (err) {
		raw_close(&raw->block);
		return err;
	}
	*out = &raw->block;
	return 0;
}
