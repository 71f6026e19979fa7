/*
 * Targets and nodes: see sysfs.h.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "devices/vfio/sysfs.h"

#define NODES_MAX 65536 /* in one list; more is no PCI bus */

/* ---- names ----------------------------------------------------------------------------------- */

/* Exactly n hexadecimal digits. */
static bool hex(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isxdigit((unsigned char)s[i]))
			return false;
	return true;
}

static void lower(char *s)
{
	for (; *s; s++)
		*s = (char)tolower((unsigned char)*s);
}

/* "BB:DD.F", with a domain of four to eight digits and a colon in front, or not. */
bool vfio_parse_bdf(const char *text, char *out)
{
	const char *colon = strchr(text, ':');
	const char *bus = text;
	size_t domain = 0;

	if (colon && strchr(colon + 1, ':')) {
		domain = (size_t)(colon - text);
		if (domain < 4 || domain > 8 || !hex(text, domain) ||
		    (domain > 4 && text[0] == '0'))
			return false;
		bus = colon + 1;
	}
	if (strlen(bus) != 7 || !hex(bus, 2) || bus[2] != ':' || !hex(bus + 3, 2) ||
	    strtoul(bus + 3, NULL, 16) > 31 || bus[5] != '.' || bus[6] < '0' || bus[6] > '7')
		return false;
	snprintf(out, VFIO_NAME_MAX, "%.*s:%s", domain ? (int)domain : 4, domain ? text : "0000",
		 bus);
	lower(out);
	return true;
}

bool vfio_parse_uuid(const char *text, char *out)
{
	static const unsigned char part[] = { 8, 4, 4, 4, 12 };
	const char *s = text;

	if (strlen(text) != 36)
		return false;
	for (unsigned i = 0; i < sizeof(part); i++) {
		if (!hex(s, part[i]))
			return false;
		s += part[i];
		if (*s++ != (i + 1 < sizeof(part) ? '-' : '\0'))
			return false;
	}
	snprintf(out, VFIO_NAME_MAX, "%s", text);
	lower(out);
	return true;
}

static const char *bus_of(enum vfio_kind kind)
{
	return kind == VFIO_MDEV ? "mdev" : "pci";
}

/* ---- one node -------------------------------------------------------------------------------- */

static unsigned number(const struct vfio_node *node, const char *file, unsigned max)
{
	uint64_t value;

	return vfio_read_number(node->path, file, max, &value) ? 0 : (unsigned)value;
}

/* The cdev's name is that of the one directory in vfio-dev/. */
static void read_cdev(struct vfio_node *node)
{
	char path[VFIO_PATH_MAX + VFIO_NAME_MAX];
	struct dirent *d;
	DIR *dir;

	if (vfio_path(path, sizeof(path), node->path, "/vfio-dev"))
		return;
	dir = opendir(path);
	if (!dir)
		return;
	while ((d = readdir(dir)))
		if (strncmp(d->d_name, "vfio", 4) == 0 && strlen(d->d_name) < sizeof(node->cdev))
			memcpy(node->cdev, d->d_name, strlen(d->d_name) + 1);
	closedir(dir);
}

static void read_group(struct vfio_node *node)
{
	char text[VFIO_NAME_MAX], *end;
	unsigned long n;

	node->group = -1;
	if (vfio_read_link(node->path, "iommu_group", text, sizeof(text)) ||
	    !isdigit((unsigned char)text[0]))
		return;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (!*end && !errno && n <= INT32_MAX)
		node->group = (int)n;
}

/* Which of its PF's virtfnN it is. */
static int index_in_pf(const struct vfio_node *vf)
{
	char pf[VFIO_PATH_MAX + VFIO_NAME_MAX], link[VFIO_NAME_MAX], name[VFIO_NAME_MAX];

	if (vfio_path(pf, sizeof(pf), vf->path, "/physfn"))
		return -1;
	for (int i = 0; i < 65536; i++) {
		snprintf(link, sizeof(link), "virtfn%d", i);
		if (vfio_read_link(pf, link, name, sizeof(name)))
			return -1;
		if (strcmp(name, vf->name) == 0)
			return i;
	}
	return -1;
}

static void read_pci(struct vfio_node *node)
{
	node->class_code = number(node, "class", 0xffffff);
	node->vendor = (uint16_t)number(node, "vendor", 0xffff);
	node->device = (uint16_t)number(node, "device", 0xffff);
	node->subsystem_vendor = (uint16_t)number(node, "subsystem_vendor", 0xffff);
	node->subsystem_device = (uint16_t)number(node, "subsystem_device", 0xffff);
	vfio_read_text(node->path, "driver_override", node->override, sizeof(node->override));
	if (strcmp(node->override, "(null)") == 0)
		node->override[0] = '\0';
	node->totalvfs = number(node, "sriov_totalvfs", 0xffff);
	node->numvfs = number(node, "sriov_numvfs", 0xffff);
	vfio_read_link(node->path, "physfn", node->pf, sizeof(node->pf));
	node->vf_index = node->pf[0] ? index_in_pf(node) : -1;
}

/* .../PARENT/UUID: the parent is the directory above the device's own. */
static void read_parent(struct vfio_node *node)
{
	char *real = realpath(node->path, NULL);
	char *end = real ? strrchr(real, '/') : NULL;

	if (end) {
		*end = '\0';
		end = strrchr(real, '/');
		if (end && strlen(end + 1) < sizeof(node->parent))
			memcpy(node->parent, end + 1, strlen(end + 1) + 1);
	}
	free(real);
}

static void read_mdev(struct vfio_node *node)
{
	vfio_read_link(node->path, "mdev_type", node->type, sizeof(node->type));
	vfio_read_text(node->path, "mdev_type/device_api", node->api, sizeof(node->api));
	read_parent(node);
}

/* node->kind, name and path are set; the rest is read. */
static int read_node(struct vfio_node *node)
{
	struct stat st;

	if (stat(node->path, &st))
		return errno == ENOENT ? -ENODEV : -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENODEV;
	vfio_read_link(node->path, "driver", node->driver, sizeof(node->driver));
	read_group(node);
	read_cdev(node);
	node->vf_index = -1;
	if (node->kind == VFIO_PCI)
		read_pci(node);
	else if (node->kind == VFIO_MDEV)
		read_mdev(node);
	return 0;
}

static int init_node(const char *root, struct vfio_node *node, enum vfio_kind kind,
		     const char *name)
{
	*node = (struct vfio_node){ .kind = kind, .group = -1 };
	snprintf(node->name, sizeof(node->name), "%s", name);
	return vfio_path(node->path, sizeof(node->path), root, "/sys/bus/%s/devices/%s",
			 bus_of(kind), node->name);
}

static int no_such(const struct vfio_node *node, int err, struct error *e)
{
	if (err != -ENODEV)
		return error_set_errno(e, err, "%s: cannot read %.*s", node->name, 200, node->path);
	return error_set(e, err, "there is no %s %s; mvm vfio list shows what there is",
			 node->kind == VFIO_MDEV ? "mediated device" : "PCI function", node->name);
}

int vfio_node_refresh(const char *root, struct vfio_node *node, struct error *e)
{
	struct vfio_node fresh;
	int err = init_node(root, &fresh, node->kind, node->name);

	if (!err)
		err = read_node(&fresh);
	if (err)
		return no_such(node, err, e);
	*node = fresh;
	return 0;
}

/* ---- targets --------------------------------------------------------------------------------- */

static bool parse_name(const char *text, enum vfio_kind *kind, char *name)
{
	*kind = VFIO_PCI;
	if (vfio_parse_bdf(text, name))
		return true;
	*kind = VFIO_MDEV;
	return vfio_parse_uuid(text, name);
}

static bool same_place(const char *a, const char *b)
{
	struct stat sa, sb;

	return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino;
}

static int find_path(const char *root, const char *target, struct vfio_node *out, struct error *e)
{
	char name[VFIO_NAME_MAX], *real = realpath(target, NULL);
	const char *last = real ? strrchr(real, '/') : NULL;
	enum vfio_kind kind;
	int err;

	if (!real)
		return error_set_errno(e, errno == ENOENT ? -ENODEV : -errno, "%.200s", target);
	if (!parse_name(last ? last + 1 : real, &kind, name)) {
		free(real);
		return error_set(e, -EINVAL,
				 "%.200s is not the directory of a PCI function or a mediated "
				 "device; one is /sys/bus/pci/devices/0000:03:00.0",
				 target);
	}
	err = init_node(root, out, kind, name);
	if (!err && !same_place(real, out->path))
		err = error_set(e, -EINVAL, "%.200s is not the device %s that %.200s is", target,
				name, out->path);
	else if (!err)
		err = vfio_node_refresh(root, out, e);
	else
		err = error_set_errno(e, err, "%.200s", target);
	free(real);
	return err;
}

int vfio_node_find(const char *root, const char *target, struct vfio_node *out, struct error *e)
{
	char name[VFIO_NAME_MAX];
	enum vfio_kind kind;
	int err;

	if (strchr(target, '/'))
		return find_path(root, target, out, e);
	if (!parse_name(target, &kind, name))
		return error_set(
			e, -EINVAL,
			"\"%.100s\" is no device: give a PCI address (0000:03:00.0 or "
			"03:00.0), the UUID of a mediated device, or the sysfs path of one; "
			"mvm vfio list shows them",
			target);
	err = init_node(root, out, kind, name);
	return err ? error_set_errno(e, err, "%s", name) : vfio_node_refresh(root, out, e);
}

/* ---- lists ----------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct vfio_node *)a)->name, ((const struct vfio_node *)b)->name);
}

static int by_index(const void *a, const void *b)
{
	return ((const struct vfio_node *)a)->vf_index - ((const struct vfio_node *)b)->vf_index;
}

/* Room for one more at *list. */
static struct vfio_node *add(struct vfio_node **list, unsigned count)
{
	if ((count & (count - 1)) == 0) { /* a power of two, or 0: full */
		unsigned room = count ? 2 * count : 1;
		struct vfio_node *more =
			count < NODES_MAX ? realloc(*list, room * sizeof(**list)) : NULL;

		if (!more)
			return NULL;
		*list = more;
	}
	return *list + count;
}

/*
 * Every directory entry that make() accepts becomes a node; one that vanishes meanwhile, or whose
 * name is none, is left out.
 */
static int list_dir(const char *path, int (*make)(struct vfio_node *, const char *, const void *),
		    const void *opaque, struct vfio_node **out, unsigned *count, struct error *e)
{
	struct vfio_node *list = NULL, *node;
	DIR *dir = opendir(path);
	struct dirent *d;
	unsigned n = 0;

	*out = NULL;
	*count = 0;
	if (!dir)
		return errno == ENOENT ? 0 : error_set_errno(e, -errno, "cannot read %s", path);
	while ((d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		node = add(&list, n);
		if (!node) {
			closedir(dir);
			free(list);
			return error_set_errno(e, -ENOMEM, "cannot list %s", path);
		}
		if (make(node, d->d_name, opaque) == 0)
			n++;
	}
	closedir(dir);
	if (n)
		qsort(list, n, sizeof(*list), by_name);
	*out = list;
	*count = n;
	return 0;
}

struct of_kind {
	const char *root;
	enum vfio_kind kind;
};

static int make_of_kind(struct vfio_node *node, const char *entry, const void *opaque)
{
	const struct of_kind *of = opaque;
	char name[VFIO_NAME_MAX];
	enum vfio_kind kind;
	int err;

	if (!parse_name(entry, &kind, name) || kind != of->kind || strcmp(name, entry) != 0)
		return -EINVAL;
	err = init_node(of->root, node, kind, name);
	return err ? err : read_node(node);
}

int vfio_node_list(const char *root, enum vfio_kind kind, struct vfio_node **out, unsigned *count,
		   struct error *e)
{
	const struct of_kind of = { root, kind };
	char path[VFIO_PATH_MAX];
	int err = vfio_path(path, sizeof(path), root, "/sys/bus/%s/devices", bus_of(kind));

	*out = NULL;
	*count = 0;
	if (err)
		return error_set_errno(e, err, "%s", path);
	return list_dir(path, make_of_kind, &of, out, count, e);
}

int vfio_node_vfs(const char *root, const struct vfio_node *pf, struct vfio_node **out,
		  unsigned *count, struct error *e)
{
	struct vfio_node *list = NULL, *node;
	char link[VFIO_NAME_MAX], name[VFIO_NAME_MAX];
	unsigned n = 0;

	/* The links end with the first that is not there. */
	for (unsigned i = 0; i < 65536; i++) {
		snprintf(link, sizeof(link), "virtfn%u", i);
		if (vfio_read_link(pf->path, link, name, sizeof(name)))
			break;
		node = add(&list, n);
		if (!node) {
			free(list);
			return error_set_errno(e, -ENOMEM, "cannot list the VFs of %s", pf->name);
		}
		if (init_node(root, node, VFIO_PCI, name) || read_node(node))
			continue;
		node->vf_index = (int)i;
		n++;
	}
	if (n)
		qsort(list, n, sizeof(*list), by_index);
	*out = list;
	*count = n;
	return 0;
}

/* ---- groups ---------------------------------------------------------------------------------- */

struct in_group {
	const char *root, *path;
};

static int make_member(struct vfio_node *node, const char *entry, const void *opaque)
{
	const struct in_group *in = opaque;
	char name[VFIO_NAME_MAX];
	enum vfio_kind kind;
	int err;

	if (parse_name(entry, &kind, name)) {
		err = init_node(in->root, node, kind, name);
		return err ? err : read_node(node);
	}
	/* A platform device, say; it counts as a member all the same. */
	*node = (struct vfio_node){ .kind = VFIO_OTHER, .group = -1 };
	if (strlen(entry) >= sizeof(node->name))
		return -ENAMETOOLONG;
	memcpy(node->name, entry, strlen(entry) + 1);
	vfio_printable(node->name);
	err = vfio_path(node->path, sizeof(node->path), in->path, "/%s", entry);
	return err ? err : read_node(node);
}

int vfio_group_read(const char *root, int number, struct vfio_group *out, struct error *e)
{
	char path[VFIO_PATH_MAX];
	const struct in_group in = { root, path };
	int err =
		vfio_path(path, sizeof(path), root, "/sys/kernel/iommu_groups/%d/devices", number);

	*out = (struct vfio_group){ .number = number };
	if (err)
		return error_set_errno(e, err, "IOMMU group %d", number);
	err = list_dir(path, make_member, &in, &out->member, &out->count, e);
	if (!err && !out->count) {
		vfio_group_free(out);
		return error_set(e, -ENODEV, "there is no IOMMU group %d (any more)", number);
	}
	return err;
}

void vfio_group_free(struct vfio_group *group)
{
	free(group->member);
	group->member = NULL;
	group->count = 0;
}

bool vfio_is_vfio_driver(const char *driver)
{
	return strncmp(driver, "vfio", 4) == 0 || strstr(driver, "-vfio-pci") ||
	       strstr(driver, "_vfio_pci");
}

bool vfio_node_blocks(const struct vfio_node *node)
{
	return node->driver[0] && !vfio_is_vfio_driver(node->driver) &&
	       strcmp(node->driver, "pci-stub") != 0 && strcmp(node->driver, "pcieport") != 0;
}

const char *vfio_group_blockers(const struct vfio_group *group, char *buf, size_t size)
{
	size_t used = 0;

	*buf = '\0';
	for (unsigned i = 0; i < group->count && used < size; i++)
		if (vfio_node_blocks(&group->member[i]))
			used += (size_t)snprintf(buf + used, size - used, "%s%s (%s)",
						 used ? ", " : "", group->member[i].name,
						 group->member[i].driver);
	return buf;
}
