/*
 * Virtual functions of a PF: made, taken apart and set up, without harm to those that use them.
 *
 * Messages begin with the PF's name.
 */
#ifndef DEVICES_VFIO_SRIOV_H
#define DEVICES_VFIO_SRIOV_H

#include "devices/vfio/host.h"

/* What each VF of an NVMe controller gets; 0: an equal share of what there is. */
struct vfio_nvme_share {
	unsigned queues;  /* pairs, the admin queue among them */
	unsigned vectors; /* of MSI-X */
};

/*
 * Makes `count` VFs. Those of an NVMe controller get their share and come online before a driver
 * sees them. 0 if there are just as many; -EBUSY if there are others. On failure there are none.
 * *pf is read anew.
 */
int vfio_vf_create(const struct vfio_host *host, struct vfio_node *pf, unsigned count,
		   const struct vfio_nvme_share *share, struct error *e);

/* All VFs of the PF. -EBUSY: one is in use. 0 if there are none. */
int vfio_vf_destroy(const struct vfio_host *host, struct vfio_node *pf, struct error *e);

/* What the PF's network driver sees to for a VF. */
struct vfio_vf_net {
	bool has_mac, has_vlan, has_trust;
	uint8_t mac[6];
	uint32_t vlan; /* 0: none */
	bool trust;
};

/* "52:54:00:12:34:56", an address that a station can have. */
bool vfio_parse_mac(const char *text, uint8_t mac[6]);

/*
 * Sets what want has; by rtnetlink, in the network namespace of the caller. If one of the settings
 * is refused, those before it are as they were.
 */
int vfio_vf_set(const struct vfio_host *host, const struct vfio_node *pf, unsigned index,
		const struct vfio_vf_net *want, struct error *e);

/* ---- between the files of this ------------------------------------------------------------- */

/* sriov_net.c, by the interface's name. */
int vfio_net_vf_get(const char *interface, unsigned index, struct vfio_vf_net *out,
		    struct error *e);
int vfio_net_vf_set(const char *interface, unsigned index, const struct vfio_vf_net *want,
		    struct error *e);
/* The PF's interface; -ENODEV. */
int vfio_net_interface(const struct vfio_node *pf, char *name, size_t size);

/* sriov_nvme.c. Is it a controller with resources to hand out? controller: VFIO_NAME_MAX bytes. */
bool vfio_nvme_manages(const struct vfio_host *host, const struct vfio_node *pf, char *controller);
/* Takes back what the offline secondary controllers of VFs have. */
void vfio_nvme_reclaim(const struct vfio_host *host, const char *controller);
/* Gives each of the VFs its share and brings it online. */
int vfio_nvme_bring_up(const struct vfio_host *host, const char *controller,
		       const struct vfio_node *vf, unsigned count,
		       const struct vfio_nvme_share *share, struct error *e);

#endif
