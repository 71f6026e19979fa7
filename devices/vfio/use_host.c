/*
 * What this machine itself does with a function: see use.h. Disks are those whose directory in
 * sysfs is below the function's; of an NVMe controller also those of its subsystem, unless another
 * controller leads there too.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vfio/use.h"

#define LINE 4096

#define STACK_MAX 8 /* interfaces on one another; Linux, MAX_NEST_DEV */

struct seeker {
	const struct vfio_host *host;
	const struct vfio_node *node;
	char *how;
	size_t size;
	unsigned depth; /* of stacked interfaces */
};

/* Calls look() with each name in a directory until it says true. */
static bool any_entry(const char *path, bool (*look)(struct seeker *, const char *, const char *),
		      struct seeker *s)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	bool found = false;

	if (!dir)
		return false;
	while (!found && (d = readdir(dir)))
		found = d->d_name[0] != '.' && look(s, path, d->d_name);
	closedir(dir);
	return found;
}

/* Does DIR/NAME lie below the function's own directory? */
static bool below_function(const struct seeker *s, const char *dir, const char *name)
{
	char path[2 * VFIO_PATH_MAX];
	char *own = realpath(s->node->path, NULL), *real = NULL;
	bool below = false;

	if (own && vfio_path(path, sizeof(path), dir, "/%s", name) == 0)
		real = realpath(path, NULL);
	if (real)
		below = strncmp(real, own, strlen(own)) == 0 && real[strlen(own)] == '/';
	free(real);
	free(own);
	return below;
}

/* ---- disks ----------------------------------------------------------------------------------- */

/* Field n (from 0) of a line, by spaces. */
static const char *field(char *line, unsigned n)
{
	char *save = NULL, *word = strtok_r(line, " \t\n", &save);

	while (word && n--)
		word = strtok_r(NULL, " \t\n", &save);
	return word ? word : "";
}

/* Where /proc/self/mountinfo says it is mounted: by number (field 2), or source (behind " - "). */
static bool mounted(struct seeker *s, const char *disk, const char *number)
{
	char path[VFIO_PATH_MAX], line[LINE], copy[LINE], device[VFIO_PATH_MAX];
	bool found = false;
	FILE *f;

	snprintf(device, sizeof(device), "/dev/%.200s", disk);
	if (vfio_path(path, sizeof(path), s->host->root, "/proc/self/mountinfo"))
		return false;
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		const char *source = strstr(line, " - ");

		memcpy(copy, line, sizeof(copy));
		found = strcmp(field(copy, 2), number) == 0;
		if (!found && source) {
			memmove(copy, source, strlen(source) + 1);
			found = strcmp(field(copy, 2), device) == 0;
		}
		if (found)
			snprintf(s->how, s->size,
				 "its disk %s is mounted on %.200s; unmount it first", disk,
				 field(line, 4));
	}
	if (f)
		fclose(f);
	return found;
}

static bool swapped_on(struct seeker *s, const char *disk)
{
	char path[VFIO_PATH_MAX], line[LINE], device[VFIO_PATH_MAX];
	bool found = false;
	FILE *f;

	snprintf(device, sizeof(device), "/dev/%.200s", disk);
	if (vfio_path(path, sizeof(path), s->host->root, "/proc/swaps"))
		return false;
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = strcmp(field(line, 0), device) == 0;
	if (f)
		fclose(f);
	if (found)
		snprintf(s->how, s->size, "this machine swaps on its disk %s; swapoff first", disk);
	return found;
}

static bool look_at_holder(struct seeker *s, const char *dir, const char *name)
{
	(void)dir;
	snprintf(s->how, s->size, "its disk is part of %s; take that apart first", name);
	return true;
}

/* A disk or a partition, in the directory of its own. */
static bool disk_used(struct seeker *s, const char *path, const char *name)
{
	char number[32], holders[2 * VFIO_PATH_MAX];

	if (vfio_read_text(path, "dev", number, sizeof(number)) <= 0)
		return false;
	if (mounted(s, name, number) || swapped_on(s, name))
		return true;
	return vfio_path(holders, sizeof(holders), path, "/holders") == 0 &&
	       any_entry(holders, look_at_holder, s);
}

/*
 * Whoever has it exclusively holds it: a file system mounted in any namespace, md, dm and swap, and
 * also what has no link in sysfs: ZFS, further devices of btrfs and bcachefs, programs.
 */
static bool held(struct seeker *s, const char *disk)
{
	if (s->host->claim(s->host, disk) != -EBUSY)
		return false;
	snprintf(s->how, s->size,
		 "its disk %s is held by a mount in a container, a pool (ZFS, btrfs) or a program; "
		 "end that first",
		 disk);
	return true;
}

static bool look_at_partition(struct seeker *s, const char *dir, const char *name)
{
	char path[2 * VFIO_PATH_MAX], number[32];

	if (vfio_path(path, sizeof(path), dir, "/%s", name) ||
	    vfio_read_text(path, "partition", number, sizeof(number)) <= 0)
		return false;
	return disk_used(s, path, name) || held(s, name);
}

static bool whole_disk_used(struct seeker *s, const char *name)
{
	char path[VFIO_PATH_MAX];

	if (vfio_path(path, sizeof(path), s->host->root, "/sys/block/%s", name))
		return false;
	/* The disk is held when a partition is: that one is to be named. */
	return disk_used(s, path, name) || any_entry(path, look_at_partition, s) || held(s, name);
}

static bool look_at_disk(struct seeker *s, const char *dir, const char *name)
{
	return below_function(s, dir, name) && whole_disk_used(s, name);
}

/* "nvme0": a controller. */
static bool is_controller(const char *name)
{
	return strncmp(name, "nvme", 4) == 0 && name[4] &&
	       !name[4 + strspn(name + 4, "0123456789")];
}

static bool look_at_namespace(struct seeker *s, const char *dir, const char *name)
{
	(void)dir;
	return strncmp(name, "nvme", 4) == 0 && !is_controller(name) && whole_disk_used(s, name);
}

/* A subsystem whose only way is through the function takes its namespaces along. */
static bool look_at_subsystem(struct seeker *s, const char *dir, const char *name)
{
	char path[2 * VFIO_PATH_MAX];
	unsigned ours = 0, others = 0;
	struct dirent *d;
	DIR *sub;

	if (vfio_path(path, sizeof(path), dir, "/%s", name))
		return false;
	sub = opendir(path);
	if (!sub)
		return false;
	while ((d = readdir(sub))) {
		if (!is_controller(d->d_name))
			continue;
		if (below_function(s, path, d->d_name))
			ours++;
		else
			others++;
	}
	closedir(sub);
	return ours && !others && any_entry(path, look_at_namespace, s);
}

/* ---- networks -------------------------------------------------------------------------------- */

static bool field_is(const char *line, unsigned n, const char *text)
{
	char copy[LINE];

	snprintf(copy, sizeof(copy), "%s", line);
	return strcmp(field(copy, n), text) == 0;
}

static bool is_default(const char *line, const char *interface)
{
	return field_is(line, 0, interface) && field_is(line, 1, "00000000");
}

static bool is_default6(const char *line, const char *interface)
{
	return field_is(line, 9, interface) && field_is(line, 1, "00") &&
	       field_is(line, 0, "00000000000000000000000000000000");
}

/* A route to everywhere, in one of the two tables of routes. */
static bool has_route(const struct vfio_host *host, const char *table, const char *interface,
		      bool (*is)(const char *line, const char *interface))
{
	char path[VFIO_PATH_MAX], line[LINE];
	bool found = false;
	FILE *f;

	if (vfio_path(path, sizeof(path), host->root, "/proc/net/%s", table))
		return false;
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = is(line, interface);
	if (f)
		fclose(f);
	return found;
}

static bool interface_used(struct seeker *s, const char *path, const char *name);

/* "upper_eth0.100": a VLAN, or another interface that has no link to a master. */
static bool look_at_upper(struct seeker *s, const char *dir, const char *name)
{
	static const char upper[] = "upper_";
	char path[VFIO_PATH_MAX];
	bool used;

	(void)dir;
	if (strncmp(name, upper, strlen(upper)) != 0 || s->depth == STACK_MAX)
		return false;
	name += strlen(upper);
	if (vfio_path(path, sizeof(path), s->host->root, "/sys/class/net/%s", name))
		return false;
	s->depth++;
	used = interface_used(s, path, name);
	s->depth--;
	return used;
}

static bool interface_used(struct seeker *s, const char *path, const char *name)
{
	bool v4 = has_route(s->host, "route", name, is_default);
	char master[VFIO_NAME_MAX];

	if (vfio_read_link(path, "master", master, sizeof(master)) == 0)
		snprintf(s->how, s->size,
			 "its interface %s is part of %s; ip link set %s nomaster first", name,
			 master, name);
	else if (v4 || has_route(s->host, "ipv6_route", name, is_default6))
		snprintf(s->how, s->size,
			 "this machine's default route goes through its interface %s; ip%s route "
			 "del default dev %s first",
			 name, v4 ? "" : " -6", name);
	else
		return any_entry(path, look_at_upper, s);
	return true;
}

static bool look_at_interface(struct seeker *s, const char *dir, const char *name)
{
	char path[2 * VFIO_PATH_MAX];

	return vfio_path(path, sizeof(path), dir, "/%s", name) == 0 &&
	       interface_used(s, path, name);
}

bool vfio_host_uses(const struct vfio_host *host, const struct vfio_node *node, char *how,
		    size_t size)
{
	struct seeker s = { host, node, how, size, 0 };
	char path[VFIO_PATH_MAX + 8];

	*how = '\0';
	if (vfio_path(path, sizeof(path), host->root, "/sys/block") == 0 &&
	    any_entry(path, look_at_disk, &s))
		return true;
	if (vfio_path(path, sizeof(path), host->root, "/sys/class/nvme-subsystem") == 0 &&
	    any_entry(path, look_at_subsystem, &s))
		return true;
	return vfio_path(path, sizeof(path), node->path, "/net") == 0 &&
	       any_entry(path, look_at_interface, &s);
}
