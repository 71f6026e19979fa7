/*
 * The options that there are: see options.h. A new one is a row here; if its value is one number,
 * word or text, nothing else.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/options_internal.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* OPTION_KEY writes these as unsigned. */
_Static_assert(sizeof(enum boot_protocol) == sizeof(unsigned), "enum in the table");
_Static_assert(sizeof(enum config_irqchip) == sizeof(unsigned), "enum in the table");
/* The order of their choices. */
_Static_assert(BOOT_AUTO == 0 && BOOT_LINUX64 == 1 && BOOT_PVH == 2, "--boot");
_Static_assert(IRQCHIP_KERNEL == 0 && IRQCHIP_SPLIT == 1 && IRQCHIP_USER == 2, "--irqchip");

enum { MEMORY_HUGEPAGES, MEMORY_PREALLOC, MEMORY_KEYS };

static const struct device_key memory_keys[] = {
	[MEMORY_HUGEPAGES] = { .name = "hugepages",
			       .type = KEY_ENUM,
			       .choices = "2M|1G",
			       .help = "take RAM from the host's huge pages of this size" },
	[MEMORY_PREALLOC] = { .name = "prealloc",
			      .type = KEY_BOOL,
			      .fallback = "off",
			      .help = "get all of it at the start, not when the guest touches it" },
	[MEMORY_KEYS] = { .name = NULL },
};

static const struct device_key memory_size = {
	.name = "SIZE", .type = KEY_SIZE, .min = MIB, .max = 16384 * GIB
};

static int set_memory(struct config *config, const char *value, struct error *e)
{
	struct device_value keys[MEMORY_KEYS] = { 0 }, size = { 0 };
	const char *list = value;
	char *field = option_field(&list);
	uint64_t page = 0;
	int err;

	if (!field)
		return error_set_errno(e, -ENOMEM, "cannot keep the value");
	err = option_parse_value(&memory_size, field, &size, e);
	/* The commonest slip: other programs count in MiB here. */
	if (err && size.number >= 16 && size.number < MIB &&
	    strspn(field, "0123456789") == strlen(field))
		error_set(e, err, "that many bytes are too few; did you mean %sM?", field);
	free(field);
	if (!err)
		err = option_parse_keys(memory_keys, list, NULL, keys, e);
	if (err)
		return err;
	if (keys[MEMORY_HUGEPAGES].given)
		page = keys[MEMORY_HUGEPAGES].number ? GIB : 2 * MIB;
	if (size.number % (page ? page : 4096))
		return error_set(e, -EINVAL, "SIZE must be a multiple of %s, the size of a page",
				 page == GIB ? "1G"
				 : page	     ? "2M"
					     : "4K");
	config->memory = (struct memory_config){
		.size = size.number,
		.page_size = page,
		.prealloc = keys[MEMORY_PREALLOC].number,
	};
	return 0;
}

static void print_memory(const struct config *config, FILE *out)
{
	const struct memory_config *m = &config->memory;
	struct device_value size = { .set = true, .number = m->size };
	struct device_value keys[MEMORY_KEYS] = {
		[MEMORY_HUGEPAGES] = { .given = m->page_size, .number = m->page_size == GIB },
		[MEMORY_PREALLOC] = { .given = m->prealloc, .number = m->prealloc },
	};

	option_print_value(&memory_size, &size, out);
	option_print_keys(memory_keys, keys, out);
}

#define FIELD(name) offsetof(struct config, name)

#define DEVICE(which)                                                                              \
	{                                                                                          \
		.type = OPTION_DEVICE, .group = GROUP_DEVICES, .class = which                      \
	}

const struct option option_table[] = {
	{ .key = { .name = "kernel",
		   .type = KEY_STRING,
		   .help = "the kernel: a bzImage, or an ELF vmlinux, also one that is "
			   "gzip-compressed; left out, the default guest's kernel and initrd" },
	  .group = GROUP_GUEST,
	  .value = "FILE",
	  .hint = HINT_FILE,
	  .offset = FIELD(kernel) },
	{ .key = { .name = "initrd", .type = KEY_STRING, .help = "the initial RAM file system" },
	  .group = GROUP_GUEST,
	  .value = "FILE",
	  .hint = HINT_FILE,
	  .offset = FIELD(initrd) },
	{ .key = { .name = "append",
		   .type = KEY_STRING,
		   .help = "add to the kernel's command line; repeated ones add up" },
	  .group = GROUP_GUEST,
	  .value = "TEXT",
	  .empty_ok = true,
	  .offset = FIELD(append),
	  .joins = true },
	{ .key = { .name = "cmdline",
		   .type = KEY_STRING,
		   .help = "the kernel's command line in place of mvm's own, which names the "
			   "console" },
	  .group = GROUP_GUEST,
	  .value = "TEXT",
	  .empty_ok = true,
	  .offset = FIELD(cmdline) },
	{ .key = { .name = "boot",
		   .type = KEY_ENUM,
		   .choices = "auto|linux64|pvh",
		   .fallback = "auto",
		   .help = "how the kernel is entered; auto is PVH for an ELF file with the note "
			   "for it, else Linux's 64-bit entry" },
	  .group = GROUP_GUEST,
	  .offset = FIELD(boot) },
	{ .key = { .name = "images",
		   .type = KEY_STRING,
		   .help = "where the default guest is; left out, $MVM_IMAGES, then the build tree "
			   "that mvm is in, then the installed data directory" },
	  .group = GROUP_GUEST,
	  .value = "DIR",
	  .hint = HINT_DIR,
	  .offset = FIELD(images) },

	{ .key = { .name = "memory", .fallback = "512M", .help = "RAM of the guest" },
	  .type = OPTION_CUSTOM,
	  .group = GROUP_MACHINE,
	  .value = "SIZE[,KEY=VALUE]...",
	  .keys = memory_keys,
	  .set = set_memory,
	  .print = print_memory },
	{ .key = { .name = "cpus",
		   .type = KEY_UINT,
		   .min = 1,
		   .max = CONFIG_MAX_CPUS,
		   .fallback = "1",
		   .help = "number of virtual CPUs" },
	  .group = GROUP_MACHINE,
	  .value = "N",
	  .offset = FIELD(cpus) },
	{ .key = { .name = "irqchip",
		   .type = KEY_ENUM,
		   .choices = "kernel|split|user",
		   .fallback = "kernel",
		   .help = "who plays the interrupt controllers and the PIT: KVM; split: KVM the "
			   "local APICs, mvm the others; user: mvm all of them (--list-devices "
			   "tells what devices notice)" },
	  .group = GROUP_MACHINE,
	  .offset = FIELD(irqchip) },
	{ .key = { .name = "no-reboot",
		   .type = KEY_BOOL,
		   .fallback = "off",
		   .help = "end when the guest reboots instead of starting it again" },
	  .group = GROUP_MACHINE,
	  .value_optional = true,
	  .offset = FIELD(no_reboot) },

	DEVICE(CLASS_NET),
	DEVICE(CLASS_BLK),
	DEVICE(CLASS_CONSOLE),
	DEVICE(CLASS_RNG),
	DEVICE(CLASS_VSOCK),
	DEVICE(CLASS_BALLOON),
	DEVICE(CLASS_FS),
	DEVICE(CLASS_DEV),

	{ .key = { .name = "stats",
		   .type = KEY_STRING,
		   .help = "write what every device's path cost (exits, kicks, interrupts, copies, "
			   "CPU time …) as JSON at the end; SIGUSR1 writes it at any time, without "
			   "--stats to stderr" },
	  .group = GROUP_MEASURE,
	  .value = "FILE",
	  .hint = HINT_FILE,
	  .offset = FIELD(stats) },
	{ .key = { .name = "stats-interval",
		   .help = "show that every so often while it runs, on stderr: 1s, 500ms, 2min" },
	  .type = OPTION_CUSTOM,
	  .group = GROUP_MEASURE,
	  .value = "TIME",
	  .set = options_set_interval,
	  .print = options_print_interval },

	{ .key = { .name = "trace",
		   .help = "write what happens, step by step, for ui.perfetto.dev or "
			   "chrome://tracing; text says it in lines on stderr" },
	  .type = OPTION_CUSTOM,
	  .group = GROUP_MEASURE,
	  .value = "FILE|text[,KEY=VALUE]...",
	  .hint = HINT_FILE,
	  .keys = options_trace_keys,
	  .set = options_set_trace,
	  .print = options_print_trace },

	{ .key = { .name = "config",
		   .help = "read options from a file, in this place; a line is NAME = VALUE, # "
			   "begins a comment" },
	  .type = OPTION_FILE,
	  .group = GROUP_CONFIG,
	  .value = "FILE",
	  .hint = HINT_FILE },
	{ .key = { .name = "print-config",
		   .help = "print everything that was chosen as --config reads it, and end" },
	  .type = OPTION_ACTION,
	  .group = GROUP_CONFIG,
	  .action = ACTION_PRINT_CONFIG },

	{ .key = { .name = "help",
		   .help = "this text; TOPIC is a device flag or an option for all about it "
			   "(--help=blk), or man, bash, markdown" },
	  .type = OPTION_ACTION,
	  .group = GROUP_INFO,
	  .value = "TOPIC",
	  .value_optional = true,
	  .action = ACTION_HELP,
	  .ends = true },
	{ .key = { .name = "list-devices", .help = "all devices that this build has" },
	  .type = OPTION_ACTION,
	  .group = GROUP_INFO,
	  .action = ACTION_LIST_DEVICES,
	  .ends = true },
	{ .key = { .name = "version", .help = "mvm's version" },
	  .type = OPTION_ACTION,
	  .group = GROUP_INFO,
	  .action = ACTION_VERSION,
	  .ends = true },
	{ .key = { .name = NULL } },
};

const char *option_name(const struct option *o)
{
	return o->type == OPTION_DEVICE ? device_class_name(o->class) : o->key.name;
}

const char *option_help(const struct option *o)
{
	return o->type == OPTION_DEVICE ? device_class_summary(o->class) : o->key.help;
}

bool option_takes_value(const struct option *o)
{
	return o->type != OPTION_ACTION || o->value;
}

const char *option_value_text(const struct option *o)
{
	if (o->type == OPTION_DEVICE)
		return "MODEL[:TARGET][,KEY=VALUE]...";
	if (o->value || o->type != OPTION_KEY)
		return o->value;
	return option_key_value_text(&o->key);
}

const struct option *option_find(const char *name, size_t len)
{
	for (const struct option *o = option_table; option_name(o); o++)
		if (strlen(option_name(o)) == len && memcmp(option_name(o), name, len) == 0)
			return o;
	return NULL;
}
