/*
 * The file under an image: whole transfers at an offset, syncs and holes, with short transfers
 * continued. With cache=direct the disk's data passes by the page cache (O_DIRECT) on a descriptor
 * of its own; an image's metadata never does. Everything is synchronous and thread-safe.
 */
#ifndef DEVICES_BACKEND_BLOCK_FILE_H
#define DEVICES_BACKEND_BLOCK_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/backend/block.h"
#include "vmm/account.h"

struct block_file {
	int fd;			 /* through the page cache; holds the lock */
	int direct;		 /* O_DIRECT, or -1 */
	uint32_t align;		 /* what O_DIRECT wants of memory addresses; 1 without */
	bool unsafe;		 /* cache=unsafe: nothing is ever synced */
	bool in_memory;		 /* on tmpfs and the like: nothing ever waits for a disk */
	bool strict;		 /* data behind the end of the file is -EIO, not zeroes */
	bool is_device;		 /* block device: it cannot grow, and new space is not zero */
	uint64_t size;		 /* bytes, when it was opened */
	uint64_t dev, inode;	 /* which file this is; of a block device, its device number */
	struct account *account; /* whose system calls these are, or NULL */
	char *path;
	bool cached;	/* some of what we write goes through the page cache */
	int sync_error; /* of the first sync that failed, if it is cached; atomic */
};

#define BLOCK_FILE_CLOSED ((struct block_file){ .fd = -1, .direct = -1, .align = 1 })

/* Opens and locks it; refuses what is neither a regular file nor a block device. */
int block_file_open(struct block_file *f, const char *path, bool read_only, enum block_cache cache,
		    struct error *e);
void block_file_close(struct block_file *f);

/* The descriptor that disk data goes through. */
static inline int block_file_data_fd(const struct block_file *f)
{
	return f->direct >= 0 ? f->direct : f->fd;
}
/* Whether these iovecs can be given to that descriptor as they are. */
bool block_file_aligned(const struct block_file *f, const struct iovec *iov, int niov);

/* Metadata. What is behind the end of the file reads as zeroes. 0 or -errno. */
int block_file_read(const struct block_file *f, void *buf, size_t len, uint64_t offset);
int block_file_write(const struct block_file *f, const void *buf, size_t len, uint64_t offset);

/* The disk's data; iovecs as in preadv2(2), flags are RWF_…. 0, or -errno. */
int block_file_readv(const struct block_file *f, const struct iovec *iov, int niov, uint64_t offset,
		     int flags);
int block_file_writev(struct block_file *f, const struct iovec *iov, int niov, uint64_t offset,
		      int flags);

/*
 * Once a sync has failed, all later ones do: the kernel has dropped what it could not write, or
 * takes it for written, and tells of it once. What came before is on the disk or not, nobody knows.
 * O_DIRECT alone leaves nothing in the page cache, and each sync speaks for itself.
 */
int block_file_sync(struct block_file *f);
/* Of a sync that was done elsewhere and returned err: what block_file_sync() would return. */
int block_file_synced(struct block_file *f, int err);
int block_file_punch(const struct block_file *f, uint64_t offset, uint64_t len);
/* Makes zeroes by fallocate(2), or by writing them. */
int block_file_zero(struct block_file *f, uint64_t offset, uint64_t len);

#endif
