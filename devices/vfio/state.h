/*
 * What has to be put back: one small file a function under ROOT/run/mvm/vfio, written before its
 * driver is taken away and removed after that was given back. /run is empty after a boot, as the
 * bindings are. A record with an owner is put back when the owner ends, by itself or, if it
 * crashed, by the next mvm that looks.
 */
#ifndef DEVICES_VFIO_STATE_H
#define DEVICES_VFIO_STATE_H

#include <stdint.h>
#include <sys/types.h>

#include "devices/vfio/host.h"

struct vfio_record {
	char name[VFIO_NAME_MAX];     /* the function's */
	char driver[VFIO_NAME_MAX];   /* what it had; "": none */
	char override[VFIO_NAME_MAX]; /* driver_override as it was; "": none */
	pid_t pid;		      /* the owner; 0: none, it stays until `unbind` */
	uint64_t start; /* when the owner began (/proc/PID/stat), against reused pids */
};

/* Keeps others from changing bindings meanwhile; *fd is closed to let them. */
int vfio_state_lock(const struct vfio_host *host, int *fd, struct error *e);

/* -ENOENT: there is none; -EBADMSG: it is no record. */
int vfio_state_read(const struct vfio_host *host, const char *name, struct vfio_record *out);
int vfio_state_write(const struct vfio_host *host, const struct vfio_record *record,
		     struct error *e);
void vfio_state_remove(const struct vfio_host *host, const char *name);

/* All that can be read; *out is the caller's to free(). */
int vfio_state_list(const struct vfio_host *host, struct vfio_record **out, unsigned *count);

/* Makes the calling process the owner. */
int vfio_state_own(const struct vfio_host *host, struct vfio_record *record);
/* Has it an owner that lives? */
bool vfio_state_owned(const struct vfio_host *host, const struct vfio_record *record);

#endif
