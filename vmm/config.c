/*
 * The machine's configuration: its defaults, what the user left open, and writing it down. In: what
 * options.c filled in. Out: a struct config that machine.c can build without further questions, or
 * a message that says where the default guest was looked for.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/options_internal.h"

/*
 * The kernel's command line names the console and leaves the rest to the kernel. No panic=: where
 * the guest's pvpanic driver is loaded a panic ends mvm with status 3 by itself, and before that a
 * restart would wipe the message off the screen, over and over.
 */
#define CMDLINE_EMULATED "console=ttyS0"
#define CMDLINE_VIRTIO	 "console=hvc0"

#define MAX_PLACES 4

void config_init(struct config *config)
{
	*config = (struct config){ .registry = device_registry };
	/* The table's defaults, by the way the user's values take; that they parse is unit-tested.
	 */
	for (const struct option *o = option_table; option_name(o); o++) {
		struct error e;

		if (o->key.fallback)
			options_apply(config, NULL, o->key.name, strlen(o->key.name),
				      o->key.fallback, &e);
	}
}

void config_free(struct config *config)
{
	for (unsigned i = 0; i < config->ndevices; i++)
		device_config_free(&config->device[i]);
	free(config->topic);
	free(config->kernel);
	free(config->initrd);
	free(config->append);
	free(config->cmdline);
	free(config->images);
	free(config->stats);
	free(config->trace);
	free(config->trace_devices);
	*config = (struct config){ .registry = config->registry };
}

static int no_memory(struct error *e)
{
	return error_set_errno(e, -ENOMEM, "cannot complete the configuration");
}

/* dir/name for the first of the names (ends with NULL) that can be read; *out is NULL if none. */
static int find_file(const char *dir, const char *const *names, char **out)
{
	for (*out = NULL; *names; names++) {
		char *path;

		if (asprintf(&path, "%s/%s", dir, *names) < 0)
			return -ENOMEM;
		if (access(path, R_OK) == 0) {
			*out = path;
			return 0;
		}
		free(path);
	}
	return 0;
}

/* Takes kernel and initrd out of the same directory. *found: there was a kernel. */
static int take_guest(struct config *config, const char *dir, bool *found, struct error *e)
{
	static const char *const kernels[] = { "vmlinux", "bzImage", NULL };
	static const char *const initrds[] = { "initramfs.cpio.gz", "initramfs.cpio", NULL };

	if (find_file(dir, kernels, &config->kernel))
		return no_memory(e);
	*found = config->kernel;
	if (config->kernel && !config->initrd && find_file(dir, initrds, &config->initrd))
		return no_memory(e);
	return 0;
}

/* Where the build puts images when mvm is in build/, or in build/san/ and the like. */
static unsigned places_beside_binary(char *exe, size_t size, char *beside, char *above, size_t len)
{
	ssize_t n = readlink("/proc/self/exe", exe, size - 1);
	char *slash;

	if (n <= 0)
		return 0;
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	if (!slash)
		return 0;
	*slash = '\0';
	if (snprintf(beside, len, "%s/images", exe) >= (int)len ||
	    snprintf(above, len, "%s/../images", exe) >= (int)len)
		return 0;
	return 2;
}

static int find_guest(struct config *config, struct error *e)
{
	char exe[PATH_MAX], beside[PATH_MAX], above[PATH_MAX];
	const char *place[MAX_PLACES], *env = getenv("MVM_IMAGES");
	struct text t = { .len = 0 };
	bool found = false;
	unsigned n = 0;

	/* A place that the user names is the only one: another guest than asked for helps nobody.
	 */
	if (config->images) {
		place[n++] = config->images;
	} else if (env && *env) {
		place[n++] = env;
	} else {
		if (places_beside_binary(exe, sizeof(exe), beside, above, sizeof(beside))) {
			place[n++] = beside;
			place[n++] = above;
		}
		place[n++] = MVM_DATADIR "/images";
	}
	for (unsigned i = 0; i < n && !found; i++) {
		int err = take_guest(config, place[i], &found, e);

		if (err)
			return err;
	}
	if (found)
		return 0;
	for (unsigned i = 0; i < n; i++)
		text_add(&t, "%s%.150s", i ? ", " : "", place[i]);
	return error_set(
		e, -ENOENT,
		"no default guest: no vmlinux or bzImage in %s%s; give a kernel with "
		"--kernel=FILE, its directory with --images=DIR, or make one with: make images",
		config->images ? "--images="
		: env && *env  ? "MVM_IMAGES="
			       : "",
		t.buf);
}

/* One of ours: serial ports that are passed through lead somewhere else. */
static const struct device_config *first_console(const struct config *config)
{
	for (unsigned i = 0; i < config->ndevices; i++)
		if (config->device[i].row->class == CLASS_CONSOLE &&
		    config->device[i].row->model != MODEL_VFIO)
			return &config->device[i];
	return NULL;
}

static bool on_terminal(const struct device_config *d)
{
	return d->row->class == CLASS_CONSOLE && d->row->model != MODEL_VFIO &&
	       (!d->target || strcmp(d->target, "stdio") == 0);
}

/* The last device becomes the first, so that the default console is the guest's first port. */
static void move_to_front(struct config *config)
{
	struct device_config last = config->device[config->ndevices - 1];
	unsigned index = 0;

	memmove(&config->device[1], &config->device[0],
		(config->ndevices - 1) * sizeof(config->device[0]));
	config->device[0] = last;
	for (unsigned i = 0; i < config->ndevices; i++)
		if (config->device[i].row->class == last.row->class)
			config->device[i].index = index++;
}

/* Every machine has a console, and the terminal goes to one of them only. */
static int complete_console(struct config *config, struct error *e)
{
	const struct device_config *taken = NULL;

	if (!first_console(config) &&
	    device_find_in(config->registry, CLASS_CONSOLE, MODEL_EMULATED, NULL)) {
		int err = options_device(config, CLASS_CONSOLE, "emulated", e);

		if (err)
			return err;
		if (config->device[config->ndevices - 1].index > 0)
			move_to_front(config);
	}
	for (unsigned i = 0; i < config->ndevices; i++) {
		const struct device_config *d = &config->device[i];

		if (!on_terminal(d))
			continue;
		if (taken)
			return error_set(e, -EINVAL,
					 "%.200s: the terminal is taken by %.200s; give this one "
					 "another target: pty, file:PATH, unix:PATH or null",
					 d->flag, taken->flag);
		taken = d;
	}
	return 0;
}

static int complete_cmdline(struct config *config, struct error *e)
{
	const struct device_config *console = first_console(config);
	const char *base = config->cmdline;
	char *whole;

	if (!base && console)
		base = console->row->model == MODEL_VIRTIO ? CMDLINE_VIRTIO : CMDLINE_EMULATED;
	if (!base)
		base = "";
	if (asprintf(&whole, "%s%s%s", base, *base && config->append ? " " : "",
		     config->append ? config->append : "") < 0)
		return no_memory(e);
	free(config->cmdline);
	free(config->append);
	config->cmdline = whole;
	config->append = NULL;
	return 0;
}

int config_complete(struct config *config, struct error *e)
{
	int err = config->kernel ? 0 : find_guest(config, e);

	if (!err)
		err = complete_console(config, e);
	if (!err)
		err = complete_cmdline(config, e);
	return err;
}
