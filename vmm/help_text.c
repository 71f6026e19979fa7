/*
 * The sentences of the help, in pieces that every form of it uses: see help.h.
 */
#include <string.h>

#include "vmm/help.h"
#include "vmm/options_internal.h"

const struct help_pair help_examples[] = {
	{ "mvm", "boot the default guest to a shell on this terminal; Ctrl-A x quits" },
	{ "mvm --cpus=4 --memory=2G --blk=virtio:disk.img",
	  "more of everything, and a disk that mvm serves by virtio" },
	{ "mvm --kernel=bzImage --initrd=initramfs.cpio.gz --append=quiet --no-reboot",
	  "your own kernel, once" },
	{ "mvm --blk=virtio:disk.img,ro=on --print-config",
	  "write down what would be run, to be read by --config" },
	{ NULL, NULL },
};

const struct help_pair help_exit_status[] = {
	{ "0", "the guest powered off" },
	{ "1", "mvm could not start the machine, or failed" },
	{ "2", "the command line is wrong" },
	{ "3", "the guest crashed" },
	{ NULL, NULL },
};

const struct help_pair help_environment[] = {
	{ "MVM_IMAGES", "the directory of the default guest, if --images does not say it" },
	{ NULL, NULL },
};

const struct help_pair help_irqchips[] = {
	{ "kernel", "8259A, 8254, I/O APIC and local APICs in KVM; an eventfd interrupts without a "
		    "step out of the kernel (irqfd)" },
	{ "split",
	  "local APICs in KVM, the others in mvm; message interrupts by irqfd, lines through "
	  "mvm" },
	{ "user",
	  "all in mvm; no irqfd: a thread of mvm delivers what eventfds signal. The guest sees "
	  "no x2APIC, no TSC deadline timer and no performance counters" },
	{ NULL, NULL },
};

const char *help_group_title(unsigned group)
{
	static const char *const titles[GROUP_COUNT] = {
		[GROUP_GUEST] = "Guest",	  [GROUP_MACHINE] = "Machine",
		[GROUP_DEVICES] = "Devices",	  [GROUP_MEASURE] = "Measuring",
		[GROUP_CONFIG] = "Configuration", [GROUP_INFO] = "Information",
	};

	return titles[group];
}

void help_key_text(const struct device_key *key, char *buf, size_t size)
{
	bool number = key->type == KEY_UINT || key->type == KEY_SIZE;
	struct text t = { .len = 0 };
	char low[32], high[32];
	const char *open = " (";

	text_add(&t, "%s", key->help);
	if (number && key->max && key->max != UINT64_MAX) {
		if (key->type == KEY_SIZE) {
			option_format_size(key->min, low, sizeof(low));
			option_format_size(key->max, high, sizeof(high));
		} else {
			snprintf(low, sizeof(low), "%llu", (unsigned long long)key->min);
			snprintf(high, sizeof(high), "%llu", (unsigned long long)key->max);
		}
		text_add(&t, "%s%s to %s", open, low, high);
		open = "; ";
	}
	if (key->fallback)
		text_add(&t, "%sdefault %s", open, key->fallback);
	if (key->fallback || *open == ';')
		text_add(&t, ")");
	snprintf(buf, size, "%s", t.buf);
}

void help_option_text(device_rows rows, const struct option *o, char *buf, size_t size)
{
	struct text t = { .len = 0 };
	const char *between = "; MODEL is ";

	if (o->type != OPTION_DEVICE) {
		help_key_text(&o->key, buf, size);
		return;
	}
	text_add(&t, "%s", option_help(o));
	for (unsigned m = 0; m < MODEL_COUNT; m++) {
		if (!device_count_hw(rows, o->class, m))
			continue;
		text_add(&t, "%s%s", between, device_model_name(m));
		between = ", ";
	}
	if (*between == ';')
		text_add(&t, " (planned)");
	snprintf(buf, size, "%s", t.buf);
}

void help_row_term(const struct device_row *row, char *buf, size_t size)
{
	const char *model = device_model_name(row->model);

	if (!row->target)
		snprintf(buf, size, "%s", model);
	else
		snprintf(buf, size, row->target_required ? "%s:%s" : "%s[:%s]", model, row->target);
}

void help_row_text(device_rows rows, const struct device_row *row, char *buf, size_t size)
{
	bool choice = device_count_hw(rows, row->class, row->model) > 1;

	snprintf(buf, size, "%s%s%s: %s", choice ? "hw=" : "", row->hw,
		 choice && row->preferred ? " (default)" : "", row->summary);
}
