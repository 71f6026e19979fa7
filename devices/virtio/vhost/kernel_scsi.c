/*
 * Kernel vhost-scsi: a SCSI target of the kernel (LIO) answers the guest's requests. In: the
 * target's name, "naa.…", under which configfs knows it. /dev/vhost-scsi has all queues and works
 * on them while an endpoint is set.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio/vhost/kernel.h"

#define NODE	"/dev/vhost-scsi"
#define TARGETS "/sys/kernel/config/target/vhost"

/* The kernel's own limit unless its module is told otherwise: control, event and 128 for requests.
 */
#define MAX_RINGS 130u
#define PATH_SIZE 512 /* a target's name is shorter than 224 */

struct vhost_scsi {
	struct vhost_kernel_file file; /* first */
	struct vhost_scsi_target target;
};

static struct vhost_scsi *of(struct vhost *b)
{
	return (struct vhost_scsi *)b;
}

static int start(struct vhost *b)
{
	return vhost_kernel_ioctl(of(b)->file.fd, VHOST_SCSI_SET_ENDPOINT, &of(b)->target);
}

/* Returns when all requests in flight have been answered. */
static int stop(struct vhost *b)
{
	return vhost_kernel_ioctl(of(b)->file.fd, VHOST_SCSI_CLEAR_ENDPOINT, &of(b)->target);
}

static const struct vhost_ops ops = {
	VHOST_KERNEL_FILE_OPS,
	.start = start,
	.stop = stop,
};

/* Has the target somebody to be served as? Only then it can be used. */
static bool has_nexus(const char *wwpn)
{
	char path[PATH_SIZE], text[8];
	bool has = false;
	int fd;

	snprintf(path, sizeof(path), TARGETS "/%s/tpgt_1/nexus", wwpn);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		has = read(fd, text, sizeof(text)) > 0;
		close(fd);
	}
	return has;
}

/* The kernel says the same (ENODEV) for a target that is not there, not complete and not free. */
static int no_target(const char *wwpn, int err, struct error *e)
{
	char path[PATH_SIZE];

	if (err != -ENODEV && err != -EEXIST && err != -EBUSY)
		return error_set_errno(e, err, "target %s", wwpn);
	snprintf(path, sizeof(path), TARGETS "/%s", wwpn);
	if (access(path, F_OK) < 0)
		return error_set(e, err,
				 "there is no target %s; root can make it with targetcli (a "
				 "backstore, then /vhost create %s and a lun), or as mkdir %s",
				 wwpn, wwpn, path);
	if (has_nexus(wwpn))
		return error_set(e, -EBUSY, "target %s is in use by another guest", wwpn);
	return error_set(e, err,
			 "target %s has no nexus yet; root can set it: echo naa.NAME > "
			 "%s/tpgt_1/nexus",
			 wwpn, path);
}

/*
 * Set and cleared again: a guest should not be the first to find out that the target is no use. The
 * kernel looks at memory and rings first; those that are not there yet pass, or it says -EFAULT and
 * we are none the wiser.
 */
static int try_target(struct vhost_scsi *s, const struct guest_memory *memory, struct error *e)
{
	int err = vhost_kernel_file_set_memory(&s->file.b, memory);

	if (!err)
		err = start(&s->file.b);
	if (err == -EFAULT)
		return 0;
	return err ? no_target(s->target.vhost_wwpn, err, e) : stop(&s->file.b);
}

static int set_target(struct vhost_scsi *s, const char *wwpn, const struct guest_memory *memory,
		      struct error *e)
{
	int abi = 0, err = vhost_kernel_ioctl(s->file.fd, VHOST_SCSI_GET_ABI_VERSION, &abi);

	if (err)
		return error_set_errno(e, err, NODE);
	if (abi > VHOST_SCSI_ABI_VERSION)
		return error_set(e, -ENOTSUP, NODE " speaks version %d, mvm knows %d", abi,
				 VHOST_SCSI_ABI_VERSION);
	if (strlen(wwpn) >= sizeof(s->target.vhost_wwpn))
		return error_set(e, -EINVAL, "%s is too long for a target's name", wwpn);
	s->target.abi_version = abi;
	s->target.vhost_tpgt = 1;
	memcpy(s->target.vhost_wwpn, wwpn, strlen(wwpn));
	return try_target(s, memory, e);
}

int vhost_scsi_open(struct vhost **out, const char *wwpn, const struct guest_memory *memory,
		    struct error *e)
{
	struct vhost_scsi *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return error_set(e, -ENOMEM, "out of memory");
	s->file.b = (struct vhost){ .ops = &ops, .name = "vhost-scsi", .rings = MAX_RINGS };
	err = vhost_kernel_file_open(&s->file, NODE, "vhost_scsi", e);
	if (!err)
		err = set_target(s, wwpn, memory, e);
	if (err) {
		vhost_close(&s->file.b);
		return err;
	}
	*out = &s->file.b;
	return 0;
}
