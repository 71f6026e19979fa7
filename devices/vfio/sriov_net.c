/*
 * MAC, VLAN and trust of a VF, by the driver of its PF: RTM_SETLINK and RTM_GETLINK with
 * IFLA_VFINFO_LIST (rtnetlink(7), <linux/if_link.h>). The one message is smaller than a library
 * for it. See sriov.h.
 */
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/vfio/sriov.h"
#include "vmm/log.h"

#define ANSWER_MAX (1u << 20) /* a PF may have hundreds of VFs, some hundred bytes each */

struct request {
	struct nlmsghdr header;
	struct ifinfomsg link;
	char attributes[256];
};

/* ---- sending and hearing --------------------------------------------------------------------- */

static void *put(struct request *r, unsigned type, const void *data, size_t len)
{
	struct rtattr *a = (void *)((char *)r + NLMSG_ALIGN(r->header.nlmsg_len));

	a->rta_type = (unsigned short)type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	r->header.nlmsg_len = NLMSG_ALIGN(r->header.nlmsg_len) + RTA_ALIGN(a->rta_len);
	return a;
}

static void end_nest(struct request *r, struct rtattr *nest)
{
	nest->rta_len = (unsigned short)((char *)r + r->header.nlmsg_len - (char *)nest);
}

static struct request request(unsigned type, unsigned flags, unsigned index)
{
	return (struct request){
		.header = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
			    .nlmsg_type = (unsigned short)type,
			    .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | flags),
			    .nlmsg_seq = 1 },
		.link = { .ifi_family = AF_UNSPEC, .ifi_index = (int)index },
	};
}

static int open_netlink(void)
{
	int on = 1, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)); /* words with an error */
	return fd;
}

/* Sends it and takes the one answer into buf; its length or -errno. */
static ssize_t talk(const struct request *r, void *buf, size_t size)
{
	int fd = open_netlink();
	ssize_t n;

	if (fd < 0)
		return fd;
	n = send(fd, r, r->header.nlmsg_len, 0);
	if (n >= 0)
		n = recv(fd, buf, size, 0);
	if (n < 0)
		n = -errno;
	close(fd);
	return n;
}

/* What the kernel had to say of an error; "" if nothing. */
static void words(const struct nlmsghdr *h, size_t len, char *buf, size_t size)
{
	const struct nlmsgerr *err = NLMSG_DATA(h);
	size_t skip = NLMSG_LENGTH(sizeof(*err));
	struct rtattr *a;
	int left;

	*buf = '\0';
	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		skip += NLMSG_ALIGN(err->msg.nlmsg_len - NLMSG_HDRLEN);
	if (skip > len)
		return;
	a = (void *)((char *)h + skip);
	for (left = (int)(len - skip); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == NLMSGERR_ATTR_MSG)
			snprintf(buf, size, "%.*s", (int)RTA_PAYLOAD(a), (char *)RTA_DATA(a));
	vfio_printable(buf);
}

/* ---- get ------------------------------------------------------------------------------------- */

/* The VF's numbers; each structure begins with the VF's index. */
static bool take_vf(struct rtattr *info, unsigned index, struct vfio_vf_net *out)
{
	int left = (int)RTA_PAYLOAD(info);
	bool mine = false;

	for (struct rtattr *a = RTA_DATA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		const void *data = RTA_DATA(a);
		uint32_t vf;

		if (RTA_PAYLOAD(a) < sizeof(vf))
			continue;
		memcpy(&vf, data, sizeof(vf));
		if (vf != index)
			continue;
		if (a->rta_type == IFLA_VF_MAC && RTA_PAYLOAD(a) >= sizeof(struct ifla_vf_mac)) {
			memcpy(out->mac, ((const struct ifla_vf_mac *)data)->mac, 6);
			out->has_mac = mine = true;
		} else if (a->rta_type == IFLA_VF_VLAN &&
			   RTA_PAYLOAD(a) >= sizeof(struct ifla_vf_vlan)) {
			out->vlan = ((const struct ifla_vf_vlan *)data)->vlan;
			out->has_vlan = true;
		} else if (a->rta_type == IFLA_VF_TRUST &&
			   RTA_PAYLOAD(a) >= sizeof(struct ifla_vf_trust)) {
			uint32_t setting = ((const struct ifla_vf_trust *)data)->setting;

			out->trust = setting == 1;
			out->has_trust = setting != (uint32_t)-1;
		}
	}
	return mine;
}

static int take_link(const struct nlmsghdr *h, unsigned index, struct vfio_vf_net *out)
{
	int left = (int)IFLA_PAYLOAD(h), inner;

	for (struct rtattr *a = IFLA_RTA(NLMSG_DATA(h)); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if ((a->rta_type & NLA_TYPE_MASK) != IFLA_VFINFO_LIST)
			continue;
		inner = (int)RTA_PAYLOAD(a);
		for (struct rtattr *vf = RTA_DATA(a); RTA_OK(vf, inner); vf = RTA_NEXT(vf, inner))
			if (take_vf(vf, index, out))
				return 0;
	}
	return -ENOENT;
}

int vfio_net_vf_get(const char *interface, unsigned index, struct vfio_vf_net *out, struct error *e)
{
	struct request r = request(RTM_GETLINK, 0, if_nametoindex(interface));
	uint32_t mask = RTEXT_FILTER_VF;
	struct nlmsghdr *answer;
	ssize_t n;
	int err;

	*out = (struct vfio_vf_net){ .has_mac = false };
	answer = calloc(1, ANSWER_MAX);
	if (!answer)
		return error_set_errno(e, -ENOMEM, "%s", interface);
	put(&r, IFLA_EXT_MASK, &mask, sizeof(mask));
	n = talk(&r, answer, ANSWER_MAX);
	if (n < 0)
		err = (int)n;
	else if (!NLMSG_OK(answer, (size_t)n))
		err = -EBADMSG;
	else if (answer->nlmsg_type == NLMSG_ERROR)
		err = ((struct nlmsgerr *)NLMSG_DATA(answer))->error ?: -EBADMSG;
	else
		err = take_link(answer, index, out);
	free(answer);
	if (err)
		error_set_errno(e, err, "interface %s does not tell of VF %u", interface, index);
	return err;
}

/* ---- set ------------------------------------------------------------------------------------- */

/* One setting. */
static int set_one(const char *interface, unsigned type, const void *data, size_t len,
		   const char *what, struct error *e)
{
	struct request r = request(RTM_SETLINK, NLM_F_ACK, if_nametoindex(interface));
	struct rtattr *list = put(&r, IFLA_VFINFO_LIST | NLA_F_NESTED, NULL, 0);
	struct rtattr *info = put(&r, IFLA_VF_INFO | NLA_F_NESTED, NULL, 0);
	char answer[4096] __attribute__((aligned(NLMSG_ALIGNTO))) = { 0 };
	struct nlmsghdr *h = (void *)answer;
	char said[160] = "";
	ssize_t n;
	int err;

	put(&r, type, data, len);
	end_nest(&r, info);
	end_nest(&r, list);
	n = talk(&r, answer, sizeof(answer));
	if (n < 0) {
		err = (int)n;
	} else if ((size_t)n < NLMSG_LENGTH(sizeof(struct nlmsgerr)) ||
		   h->nlmsg_type != NLMSG_ERROR) {
		err = -EBADMSG;
	} else {
		err = ((struct nlmsgerr *)NLMSG_DATA(h))->error;
		if (err)
			words(h, (size_t)n, said, sizeof(said));
	}
	if (!err)
		return 0;
	if (err == -EPERM)
		return error_set(e, err, "not allowed to set the %s through %s; this needs root",
				 what, interface);
	if (err == -EOPNOTSUPP)
		return error_set(e, err, "the driver of %s cannot set the %s of a VF%s%s",
				 interface, what, *said ? ": " : "", said);
	error_set_errno(e, err, "%s did not take the %s%s%s", interface, what, *said ? ": " : "",
			said);
	return err == -EINVAL ? -EIO : err; /* -EINVAL is a wrong command line to those above */
}

/* What want has, of which only *done settings, or all; counts those that were made. */
static int set_some(const char *interface, unsigned index, const struct vfio_vf_net *want,
		    unsigned limit, unsigned *done, struct error *e)
{
	struct ifla_vf_mac mac = { .vf = index };
	struct ifla_vf_vlan vlan = { .vf = index, .vlan = want->vlan };
	struct ifla_vf_trust trust = { .vf = index, .setting = want->trust };
	const struct {
		bool has;
		unsigned type;
		const void *data;
		size_t len;
		const char *what;
	} settings[] = {
		{ want->has_mac, IFLA_VF_MAC, &mac, sizeof(mac), "MAC address" },
		{ want->has_vlan, IFLA_VF_VLAN, &vlan, sizeof(vlan), "VLAN" },
		{ want->has_trust, IFLA_VF_TRUST, &trust, sizeof(trust), "trust" },
	};
	int err = 0;

	memcpy(mac.mac, want->mac, sizeof(want->mac));
	*done = 0;
	for (unsigned i = 0; i < 3 && *done < limit && !err; i++) {
		if (!settings[i].has)
			continue;
		err = set_one(interface, settings[i].type, settings[i].data, settings[i].len,
			      settings[i].what, e);
		if (!err)
			++*done;
	}
	return err;
}

int vfio_net_vf_set(const char *interface, unsigned index, const struct vfio_vf_net *want,
		    struct error *e)
{
	struct vfio_vf_net before;
	struct error ignored;
	unsigned done, undone;
	int err = vfio_net_vf_get(interface, index, &before, e);

	if (err)
		return err;
	err = set_some(interface, index, want, 3, &done, e);
	if (err && done) {
		/* The same settings in the same order, as they were. */
		before.has_mac = want->has_mac;
		before.has_vlan = want->has_vlan;
		before.has_trust = want->has_trust;
		if (set_some(interface, index, &before, done, &undone, &ignored))
			log_warn("VF %u of %s is changed in part: %s", index, interface,
				 ignored.msg);
	}
	return err;
}
