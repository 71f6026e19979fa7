/*
 * Memory that the vhost-user server shares with its front end: the guest's RAM, and the region in
 * which requests in flight are noted so that they survive this process.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/virtio/vhost/server_impl.h"

#define INFLIGHT_ALIGN 64u

/* ---- guest memory ---------------------------------------------------------------------------- */

bool server_guest_range(const struct vhost_user_server *s, uint64_t user, uint64_t len,
			uint64_t *guest)
{
	for (unsigned i = 0; i < s->nregions; i++) {
		const struct vhost_user_region *r = &s->region[i].region;

		if (user - r->user_addr < r->size && len <= r->size - (user - r->user_addr)) {
			*guest = r->guest_addr + (user - r->user_addr);
			return true;
		}
	}
	return false;
}

/* Maps what s->region has, in place of what is mapped. */
static int remap(struct vhost_user_server *s, struct error *e)
{
	struct memory_part part[VHOST_USER_MAX_REGIONS];
	struct guest_memory memory;
	int err;

	for (unsigned i = 0; i < s->nregions; i++)
		part[i] = (struct memory_part){
			.gpa = s->region[i].region.guest_addr,
			.size = s->region[i].region.size,
			.fd = s->region[i].fd,
			.fd_offset = s->region[i].region.mmap_offset,
		};
	err = memory_map_fds(&memory, part, s->nregions, e);
	if (err)
		return err;
	server_rings_suspend(s);
	memory_destroy(s->v->dev.host->memory);
	*s->v->dev.host->memory = memory;
	return server_rings_resume(s, e);
}

static void forget_regions(struct vhost_user_server *s)
{
	for (unsigned i = 0; i < s->nregions; i++)
		close(s->region[i].fd);
	s->nregions = 0;
}

int server_set_mem_table(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	forget_regions(s);
	for (unsigned i = 0; i < m->memory.nregions; i++)
		s->region[s->nregions++] = (struct server_region){
			.region = m->memory.region[i],
			.fd = vhost_user_take_fd(m, i),
		};
	return remap(s, e);
}

int server_add_mem_reg(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	if (s->nregions == VHOST_USER_MAX_REGIONS)
		return error_set(e, -ENOSPC, "more than %u memory regions", VHOST_USER_MAX_REGIONS);
	s->region[s->nregions++] = (struct server_region){
		.region = m->slot.region,
		.fd = vhost_user_take_fd(m, 0),
	};
	return remap(s, e);
}

int server_rem_mem_reg(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	const struct vhost_user_region *gone = &m->slot.region;

	for (unsigned i = 0; i < s->nregions; i++) {
		const struct vhost_user_region *r = &s->region[i].region;

		if (r->guest_addr != gone->guest_addr || r->user_addr != gone->user_addr ||
		    r->size != gone->size)
			continue;
		close(s->region[i].fd);
		s->region[i] = s->region[--s->nregions];
		return remap(s, e);
	}
	return error_set(e, -EINVAL, "a memory region is removed that is not there");
}

/* ---- requests in flight ---------------------------------------------------------------------- */

static size_t stride_of(const struct vhost_user_inflight *i)
{
	return (virtq_track_size(i->queue_size) + INFLIGHT_ALIGN - 1) &
	       ~(size_t)(INFLIGHT_ALIGN - 1);
}

static void inflight_unmap(struct vhost_user_server *s)
{
	if (s->inflight)
		munmap(s->inflight, s->inflight_size);
	s->inflight = NULL;
}

static int inflight_check(const struct vhost_user_server *s, const struct vhost_user_inflight *i,
			  struct error *e)
{
	if (server_rings_started(s))
		return error_set(e, -EBUSY, "the in-flight region is changed while rings run");
	if (i->nqueues == 0 || i->nqueues > s->v->nqueues || i->queue_size == 0 ||
	    i->queue_size > VIRTQ_MAX_SIZE)
		return error_set(e, -EINVAL, "an in-flight region for %u queues of %u", i->nqueues,
				 i->queue_size);
	return 0;
}

static int inflight_map(struct vhost_user_server *s, const struct vhost_user_inflight *i, int fd,
			struct error *e)
{
	size_t wanted = i->nqueues * stride_of(i);
	struct stat st;
	void *map;

	if (i->mmap_size < wanted || i->mmap_size > wanted + (64u << 20) || i->mmap_offset % 4096)
		return error_set(e, -EINVAL, "an in-flight region of %llu bytes at %llu",
				 (unsigned long long)i->mmap_size,
				 (unsigned long long)i->mmap_offset);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size < i->mmap_offset ||
	    (uint64_t)st.st_size - i->mmap_offset < i->mmap_size)
		return error_set(e, -EINVAL, "the in-flight region is longer than its file");
	map = mmap(NULL, i->mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   (off_t)i->mmap_offset);
	if (map == MAP_FAILED)
		return error_set_errno(e, -errno, "cannot map the in-flight region");
	inflight_unmap(s);
	s->inflight = map;
	s->inflight_size = i->mmap_size;
	s->inflight_stride = stride_of(i);
	s->inflight_queues = i->nqueues;
	return 0;
}

static int inflight_file(size_t size, struct error *e)
{
	int fd = memfd_create("mvm-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING), err;

	if (fd >= 0 && ftruncate(fd, (off_t)size) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	err = -errno;
	if (fd >= 0)
		close(fd);
	return error_set_errno(e, err, "cannot make an in-flight region");
}

int server_get_inflight_fd(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	struct vhost_user_inflight *i = &m->inflight;
	int err = inflight_check(s, i, e), fd;

	if (err)
		return err;
	i->mmap_size = (i->nqueues * stride_of(i) + 4095) & ~4095ull;
	i->mmap_offset = 0;
	fd = inflight_file(i->mmap_size, e);
	if (fd < 0)
		return fd;
	err = inflight_map(s, i, fd, e);
	m->size = sizeof(*i);
	m->fd[0] = fd;
	m->nfds = 1;
	return err;
}

int server_set_inflight_fd(struct vhost_user_server *s, struct vhost_user_msg *m, struct error *e)
{
	int err = inflight_check(s, &m->inflight, e);

	return err ? err : inflight_map(s, &m->inflight, m->fd[0], e);
}

void server_memory_reset(struct vhost_user_server *s)
{
	inflight_unmap(s);
	forget_regions(s);
	memory_destroy(s->v->dev.host->memory);
}
