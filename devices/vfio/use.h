/*
 * Is a function in use, so that taking it away would hurt somebody? By a user of VFIO (a VMM), or
 * by this machine itself: a mounted disk, the network that it is reached by.
 */
#ifndef DEVICES_VFIO_USE_H
#define DEVICES_VFIO_USE_H

#include "devices/vfio/host.h"

/*
 * Has a process the VFIO group or cdev of the node open? who: its name and pid, "mvm (pid 123)",
 * or "another process". A group that nobody may open twice is asked itself; processes are looked
 * through for the name. The caller needs root for a certain answer.
 */
bool vfio_opened(const struct vfio_host *host, const struct vfio_node *node, char *who,
		 size_t size);

/*
 * The same for a list of nodes in one walk over the processes, without opening anything:
 * who[i] is "" for those that nobody has open.
 */
void vfio_opened_by(const struct vfio_host *host, const struct vfio_node *nodes, unsigned count,
		    char (*who)[VFIO_NAME_MAX]);

/*
 * Does this machine use it now, through its own driver? how: "its disk nvme0n1 is mounted on /srv;
 * unmount that first".
 */
bool vfio_host_uses(const struct vfio_host *host, const struct vfio_node *node, char *how,
		    size_t size);

#endif
