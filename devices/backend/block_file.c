/*
 * Files under images: see block_file.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "devices/backend/block_file.h"
#include "devices/backend/iov_cursor.h"
#include "vmm/log.h"

#define ZEROES_CHUNK (64u << 10)
#define BOUNCE_MAX   (1u << 20)
#define BOUNCE_ALIGN 4096u

/* ---- opening --------------------------------------------------------------------------------- */

static const char *kind_of_file(mode_t mode)
{
	return S_ISDIR(mode)	? "a directory"
	       : S_ISFIFO(mode) ? "a fifo"
	       : S_ISSOCK(mode) ? "a socket"
	       : S_ISCHR(mode)	? "a character device"
				: "something else";
}

static int lock_file(int fd, const char *path, bool read_only, struct error *e)
{
	struct flock lock = { .l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return error_set(e, -EBUSY, "%s is in use: another program or disk %s", path,
				 read_only ? "writes to it" : "has it open");
	log_warn("%s: its file system cannot lock it: nothing keeps others from writing to it",
		 path);
	return 0;
}

static int identify(struct block_file *f, const char *path, struct error *e)
{
	struct stat st;
	struct statfs fs;

	if (fstat(f->fd, &st) < 0)
		return error_set_errno(e, -errno, "cannot look at %s", path);
	if (S_ISREG(st.st_mode)) {
		f->in_memory = fstatfs(f->fd, &fs) == 0 &&
			       (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC ||
				fs.f_type == HUGETLBFS_MAGIC);
		f->size = (uint64_t)st.st_size;
		f->dev = st.st_dev;
		f->inode = st.st_ino;
		return 0;
	}
	if (!S_ISBLK(st.st_mode))
		return error_set(e, -EINVAL, "%s is %s; an image is a file or block device", path,
				 kind_of_file(st.st_mode));
	f->is_device = true;
	f->dev = 0;
	f->inode = st.st_rdev;
	if (ioctl(f->fd, BLKGETSIZE64, &f->size) < 0)
		return error_set_errno(e, -errno, "cannot learn the size of %s", path);
	return 0;
}

/*
 * What O_DIRECT wants of offsets must be no more than a sector: the guest's requests are multiples
 * of that, and padding them would mean reading and writing blocks that other requests change.
 */
static int open_direct(struct block_file *f, const char *path, bool read_only, struct error *e)
{
	char self[32];
	unsigned memory = 512, offset = 512;
#ifdef STATX_DIOALIGN
	struct statx sx;

	if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
	    (sx.stx_mask & STATX_DIOALIGN)) {
		memory = sx.stx_dio_mem_align;
		offset = sx.stx_dio_offset_align;
	}
#endif
	if (f->is_device) {
		int logical = 0;

		if (ioctl(f->fd, BLKSSZGET, &logical) == 0 && logical > 512)
			memory = (unsigned)logical; /* its sectors are what the guest sees */
	} else if (offset == 0 || offset > BLOCK_SECTOR) {
		return error_set(e, -ENOTSUP,
				 "%s: its file system cannot do direct I/O of 512 bytes; use "
				 "cache=writeback",
				 path);
	}
	/* Again through /proc, so that it is certainly the same file. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", f->fd);
	f->direct = open(self, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_DIRECT | O_NOCTTY);
	if (f->direct < 0)
		return error_set_errno(e, -errno,
				       "cannot open %s for direct I/O (cache=writeback needs none)",
				       path);
	f->align = memory ? memory : 1;
	return 0;
}

int block_file_open(struct block_file *f, const char *path, bool read_only, enum block_cache cache,
		    struct error *e)
{
	int err;

	*f = BLOCK_FILE_CLOSED;
	f->unsafe = cache == BLOCK_CACHE_UNSAFE;
	f->cached = cache != BLOCK_CACHE_DIRECT;
	f->path = strdup(path);
	if (!f->path)
		return error_set(e, -ENOMEM, "out of memory");
	/* O_NONBLOCK: a fifo or a drive without a medium must not hold us up; then it goes. */
	f->fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	err = f->fd < 0 ? -errno : 0;
	if (err == -EISDIR)
		return error_set(e, err, "%s is a directory; an image is a file or block device",
				 path);
	if ((err == -EACCES || err == -EPERM || err == -EROFS) && !read_only)
		return error_set_errno(e, err, "cannot open %s for writing (ro=on reads it only)",
				       path);
	if (err)
		return error_set_errno(e, err, "cannot open %s", path);
	err = identify(f, path, e);
	if (!err) {
		fcntl(f->fd, F_SETFL, 0);
		err = lock_file(f->fd, path, read_only, e);
	}
	if (!err && cache == BLOCK_CACHE_DIRECT)
		err = open_direct(f, path, read_only, e);
	if (err)
		block_file_close(f);
	return err;
}

void block_file_close(struct block_file *f)
{
	if (f->direct >= 0)
		close(f->direct);
	if (f->fd >= 0)
		close(f->fd); /* and with it the lock */
	free(f->path);
	*f = BLOCK_FILE_CLOSED;
}

/* ---- metadata -------------------------------------------------------------------------------- */

int block_file_read(const struct block_file *f, void *buf, size_t len, uint64_t offset)
{
	uint8_t *at = buf;

	while (len) {
		account_add(f->account, ACCOUNT_SYSCALLS, 1);
		ssize_t n = pread(f->fd, at, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			memset(at, 0, len);
			break;
		}
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int block_file_write(const struct block_file *f, const void *buf, size_t len, uint64_t offset)
{
	const uint8_t *at = buf;

	while (len) {
		account_add(f->account, ACCOUNT_SYSCALLS, 1);
		ssize_t n = pwrite(f->fd, at, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* ---- data ------------------------------------------------------------------------------------ */

bool block_file_aligned(const struct block_file *f, const struct iovec *iov, int niov)
{
	uintptr_t bits = 0;

	if (f->direct < 0)
		return true;
	for (int i = 0; i < niov; i++)
		bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
	return (bits & (f->align - 1)) == 0;
}

struct transfer {
	const struct block_file *f;
	bool write;
	int fd, flags;
	uint64_t offset;
};

/* One system call; bytes (0: the end of the file, when reading) or -errno. */
static ssize_t transfer_some(const struct transfer *t, const struct iovec *iov, int niov)
{
	ssize_t n;

	do {
		account_add(t->f->account, ACCOUNT_SYSCALLS, 1);
		n = t->write ? pwritev2(t->fd, iov, niov, (off_t)t->offset, t->flags)
			     : preadv2(t->fd, iov, niov, (off_t)t->offset, t->flags);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (t->fd == t->f->fd)
		account_add(t->f->account, ACCOUNT_COPIED_KERNEL, (uint64_t)n);
	return n == 0 && t->write ? -EIO : n;
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
		if (n == 0) { /* behind the end */
			if (t->f->strict)
				return -EIO; /* shorter than it was when we opened it */
			struct iov_cursor c = iov_cursor_at(iov, niov);

			c.skip = skip;
			iov_cursor_zero(&c, SIZE_MAX);
			return 0;
		}
		t->offset += (uint64_t)n;
		if (t->fd == t->f->direct && t->offset % BLOCK_SECTOR && !t->write)
			t->fd = t->f->fd; /* a ragged end: O_DIRECT would refuse to look behind it
					   */
		for (left = skip + (size_t)n; niov > 0 && left >= iov->iov_len; niov--, iov++)
			left -= iov->iov_len;
		skip = left;
		if (niov > 0 && (t->flags & RWF_NOWAIT))
			return -EAGAIN; /* the rest would wait */
	}
	return 0;
}

/* Through a buffer that O_DIRECT likes, a piece at a time. */
static int transfer_bounced(struct transfer *t, const struct iovec *iov, int niov)
{
	struct iov_cursor c = iov_cursor_at(iov, niov);
	uint64_t left = 0;
	void *buffer;
	int err = 0;

	for (int i = 0; i < niov; i++)
		left += iov[i].iov_len;
	if (left == 0)
		return 0;
	if (posix_memalign(&buffer, BOUNCE_ALIGN, left < BOUNCE_MAX ? left : BOUNCE_MAX))
		return -ENOMEM;
	while (left && !err) {
		struct iovec piece = { .iov_base = buffer,
				       .iov_len = left < BOUNCE_MAX ? left : BOUNCE_MAX };

		if (t->write)
			iov_cursor_copy(&c, buffer, piece.iov_len);
		err = transfer_all(t, &piece, 1);
		if (!err && !t->write)
			iov_cursor_fill(&c, buffer, piece.iov_len);
		account_add(t->f->account, ACCOUNT_COPIED, piece.iov_len);
		left -= piece.iov_len;
	}
	free(buffer);
	return err;
}

static int transfer(struct transfer *t, const struct iovec *iov, int niov)
{
	if (block_file_aligned(t->f, iov, niov))
		return transfer_all(t, iov, niov);
	return transfer_bounced(t, iov, niov);
}

int block_file_readv(const struct block_file *f, const struct iovec *iov, int niov, uint64_t offset,
		     int flags)
{
	struct transfer t = {
		.f = f, .fd = block_file_data_fd(f), .flags = flags, .offset = offset
	};

	return transfer(&t, iov, niov);
}

int block_file_writev(struct block_file *f, const struct iovec *iov, int niov, uint64_t offset,
		      int flags)
{
	struct transfer t = {
		.f = f,
		.write = true,
		.fd = block_file_data_fd(f),
		.flags = f->unsafe ? flags & ~RWF_DSYNC : flags,
		.offset = offset,
	};
	int err = transfer(&t, iov, niov);

	if (!err || !(t.flags & RWF_DSYNC) || !f->cached)
		return err;
	/* Was it the write or the sync in it? If it can be written, the sync. */
	t.flags &= ~RWF_DSYNC;
	t.offset = offset;
	return transfer(&t, iov, niov) ? err : block_file_synced(f, err);
}

/* ---- syncs and holes ------------------------------------------------------------------------- */

int block_file_synced(struct block_file *f, int err)
{
	int none = 0;

	if (!f->cached)
		return err;
	if (err && __atomic_compare_exchange_n(&f->sync_error, &none, err, false, __ATOMIC_ACQ_REL,
					       __ATOMIC_ACQUIRE))
		log_error("%s: what was written may not be on the disk (%s); from now on all "
			  "flushes of it fail",
			  f->path, strerror(-err));
	return __atomic_load_n(&f->sync_error, __ATOMIC_ACQUIRE);
}

int block_file_sync(struct block_file *f)
{
	int err;

	if (f->unsafe)
		return 0;
	do {
		account_add(f->account, ACCOUNT_SYSCALLS, 1);
		err = fdatasync(f->fd) < 0 ? -errno : 0;
	} while (err == -EINTR);
	return block_file_synced(f, err);
}

static int allocate(const struct block_file *f, int mode, uint64_t offset, uint64_t len)
{
	int err;

	if (len == 0)
		return 0;
	do {
		account_add(f->account, ACCOUNT_SYSCALLS, 1);
		err = fallocate(f->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) < 0
			      ? -errno
			      : 0;
	} while (err == -EINTR);
	return err;
}

int block_file_punch(const struct block_file *f, uint64_t offset, uint64_t len)
{
	return allocate(f, FALLOC_FL_PUNCH_HOLE, offset, len);
}

int block_file_zero(struct block_file *f, uint64_t offset, uint64_t len)
{
	static const uint8_t zeroes[ZEROES_CHUNK] __attribute__((aligned(BOUNCE_ALIGN)));
	int err = allocate(f, FALLOC_FL_ZERO_RANGE, offset, len);

	if (err != -EOPNOTSUPP)
		return err;
	for (err = 0; len && !err;) {
		struct iovec iov = { .iov_base = (void *)(uintptr_t)zeroes,
				     .iov_len = len < ZEROES_CHUNK ? len : ZEROES_CHUNK };

		err = block_file_writev(f, &iov, 1, offset, 0);
		offset += iov.iov_len;
		len -= iov.iov_len;
	}
	return err;
}
