/*
 * Putting a machine together and running it: see machine.h. Order of making: KVM, RAM, buses,
 * chips, PCI, devices, kernel, vCPUs; taking apart is the reverse, from wherever making stopped.
 *
 * Ends and resets: whoever wants one (a device on a vCPU's thread, the terminal's Ctrl-A x) calls
 * request(), which notes it, keeps that vCPU out of the guest and tells the main thread; the main
 * thread pauses the rest and does it.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "boot/boot.h"
#include "devices/device.h"
#include "devices/pci/pci.h"
#include "vmm/irq.h"
#include "vmm/kvm.h"
#include "vmm/log.h"
#include "vmm/machine.h"
#include "vmm/stats.h"
#include "vmm/trace.h"
#include "vmm/vcpu.h"
#include "vmm/x86_64/cpuid.h"
#include "vmm/x86_64/irqchip.h"
#include "vmm/x86_64/layout.h"
#include "vmm/x86_64/platform.h"

#define LAST_WORDS_NS 2000000000u /* for what a kernel that panicked still has to say */

struct machine {
	const struct config *config;
	struct kvm kvm;
	struct guest_memory memory;
	const struct irqchip_ops *irqchip;
	void *chip; /* irqchip's */
	struct device_host host;
	struct device *devices; /* the last made first */
	struct pci_windows windows;
	int kernel_fd, initrd_fd;
	struct vcpu_set vcpus;
	struct stats stats;
	struct trace *trace;

	/* The first of the requests that the main thread has not served yet. Any thread. */
	enum machine_request request;
	int crashed; /* enum vcpu_stop + 1 of a vCPU that cannot go on */
	struct event_message attention;

	/* Main thread. */
	bool panicked;
	struct event_timer last_words;
	struct event_source signals;
	int signal;
	int status;
	struct error *error;
};

static struct machine *machine_of(struct device_host *host)
{
	return (struct machine *)((char *)host - offsetof(struct machine, host));
}

/* ---- requests -------------------------------------------------------------------------------- */

static void request(struct device_host *host, enum machine_request why)
{
	struct machine *m = machine_of(host);
	enum machine_request none = REQUEST_NONE;

	if (!__atomic_compare_exchange_n(&m->request, &none, why, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return; /* one is being served */
	vcpu_set_request_pause(&m->vcpus);
	event_post(host->loop, &m->attention);
}

static int vfio_file(struct device_host *host, int fd, bool add)
{
	return kvm_vfio_file(&machine_of(host)->kvm, fd, add);
}

static void vcpu_stopped(void *opaque, enum vcpu_stop why)
{
	struct machine *m = opaque;

	__atomic_store_n(&m->crashed, (int)why + 1, __ATOMIC_RELEASE);
	event_post(m->host.loop, &m->attention);
}

static void finish(struct machine *m, int status)
{
	m->status = status;
	event_loop_stop(m->host.loop);
}

/* ---- start, pause, reset --------------------------------------------------------------------- */

static int start_devices(struct machine *m, struct error *e)
{
	for (struct device *d = m->devices; d; d = d->next) {
		int err = d->ops->start ? d->ops->start(d, e) : 0;

		if (err) {
			error_prefix(e, "%s: ", d->name);
			return err;
		}
	}
	return 0;
}

static void pause_all(struct machine *m)
{
	vcpu_set_pause(&m->vcpus);
	for (struct device *d = m->devices; d; d = d->next)
		if (d->ops->pause)
			d->ops->pause(d);
}

static int resume_all(struct machine *m, struct error *e)
{
	int err = start_devices(m, e);

	return err ? err : vcpu_set_resume(&m->vcpus, e);
}

static int load_kernel(struct machine *m, struct boot_entry *entry, struct error *e)
{
	struct boot_platform platform =
		platform_describe(&m->windows, m->config->cpus, m->host.pio, &m->host.mmio_slots);
	struct boot_config boot = {
		.kernel = m->config->kernel,
		.kernel_fd = m->kernel_fd,
		.initrd = m->config->initrd,
		.initrd_fd = m->initrd_fd,
		.cmdline = m->config->cmdline,
		.protocol = m->config->boot,
		.platform = &platform,
	};

	return boot_load(&m->memory, &boot, entry, e);
}

/* Power on and guest reboot are the same: everything as new, the kernel loaded, vCPU 0 at its door.
 */
static int reset(struct machine *m, struct error *e)
{
	struct boot_entry entry;
	int err;

	for (struct device *d = m->devices; d; d = d->next)
		if (d->ops->reset)
			d->ops->reset(d);
	err = pci_root_assign(m->host.pci, e);
	if (!err)
		err = m->irqchip->reset(m->chip, e);
	if (!err)
		err = load_kernel(m, &entry, e);
	return err ? err : vcpu_set_reset(&m->vcpus, &entry, e);
}

/* The request is served, and the machine lives. */
static void go_on(struct machine *m)
{
	__atomic_store_n(&m->request, REQUEST_NONE, __ATOMIC_RELEASE);
	if (resume_all(m, m->error))
		finish(m, STATUS_FAILED);
}

static void serve_reset(struct machine *m)
{
	if (m->config->no_reboot) {
		finish(m, STATUS_OK);
		return;
	}
	if (reset(m, m->error)) {
		error_prefix(m->error, "reboot: ");
		finish(m, STATUS_FAILED);
		return;
	}
	go_on(m);
}

/*
 * Linux tells the panic device before it has written all of its message to the console, so it gets
 * the time to do that; what it asks for next, a restart as a rule, is the end.
 */
static void serve_panic(struct machine *m)
{
	log_error("the guest panicked");
	m->panicked = true;
	event_timer_set(&m->last_words, LAST_WORDS_NS);
	go_on(m);
}

static void last_words_said(void *opaque)
{
	struct machine *m = opaque;

	pause_all(m);
	finish(m, STATUS_CRASHED);
}

/* On the main thread, after request() or vcpu_stopped(). */
static void serve_attention(void *arg)
{
	struct machine *m = arg;
	int crashed;

	pause_all(m);
	crashed = __atomic_load_n(&m->crashed, __ATOMIC_ACQUIRE);
	if (crashed) {
		finish(m, crashed - 1 == VCPU_CRASHED ? STATUS_CRASHED : STATUS_FAILED);
		return;
	}
	if (m->panicked) {
		finish(m, STATUS_CRASHED);
		return;
	}
	switch (__atomic_load_n(&m->request, __ATOMIC_ACQUIRE)) {
	case REQUEST_NONE:
		break;
	case REQUEST_POWEROFF:
		finish(m, STATUS_OK);
		break;
	case REQUEST_RESET:
		serve_reset(m);
		break;
	case REQUEST_PANIC:
		serve_panic(m);
		break;
	}
}

/* ---- signals --------------------------------------------------------------------------------- */

static void signal_arrived(void *opaque, uint32_t events)
{
	struct machine *m = opaque;
	struct signalfd_siginfo info;

	(void)events;
	if (read(m->signals.fd, &info, sizeof(info)) != sizeof(info))
		return;
	m->signal = (int)info.ssi_signo;
	pause_all(m);
	finish(m, STATUS_FAILED);
}

/* Those that end a program come in through the loop, so that everything is put back first. */
static int catch_signals(struct machine *m, struct error *e)
{
	static const int ending[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t set;
	int err;

	sigemptyset(&set);
	for (unsigned i = 0; i < sizeof(ending) / sizeof(ending[0]); i++) {
		struct sigaction now;

		/* One that the parent had us ignore (nohup) stays ignored. */
		if (sigaction(ending[i], NULL, &now) == 0 && now.sa_handler == SIG_IGN)
			continue;
		sigaddset(&set, ending[i]);
	}
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	/* A disk image that reaches RLIMIT_FSIZE is the guest's I/O error (EFBIG), not our end. */
	signal(SIGXFSZ, SIG_IGN);
	m->signals = (struct event_source){
		.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK),
		.events = EPOLLIN,
		.callback = signal_arrived,
		.opaque = m,
	};
	err = m->signals.fd < 0 ? -errno : event_add(m->host.loop, &m->signals);
	return err ? error_set_errno(e, err, "cannot watch for signals") : 0;
}

/* ---- making and unmaking --------------------------------------------------------------------- */

static int open_file(const struct machine *m, const char *flag, const char *path, int *fd,
		     struct error *e)
{
	*fd = boot_open(path, m->config->memory.size, e);
	if (*fd < 0)
		error_prefix(e, "--%s: ", flag);
	return *fd < 0 ? *fd : 0;
}

static void account_buses(struct device_host *h)
{
	struct account *own = account_machine(h->accounts);

	bus_set_account(h->pio, own, ACCOUNT_PIO_READS, ACCOUNT_PIO_WRITES);
	bus_set_account(h->mmio, own, ACCOUNT_MMIO_READS, ACCOUNT_MMIO_WRITES);
	bus_set_account(pci_root_config(h->pci), own, ACCOUNT_CONFIG_READS, ACCOUNT_CONFIG_WRITES);
}

static int make_buses(struct machine *m, struct error *e)
{
	struct device_host *h = &m->host;

	h->pio = bus_create("pio");
	h->mmio = bus_create("mmio");
	if (!h->pio || !h->mmio)
		return error_set(e, -ENOMEM, "out of memory");
	/* With trace_kicks the buses ring doorbells themselves, where a trace sees it. */
	kvm_attach_buses(&m->kvm, h->pio, h->mmio, !m->config->trace_kicks);
	h->mappings = kvm_create_mappings(&m->kvm, e);
	return h->mappings ? 0 : -ENOMEM; /* e says what */
}

static int make_chips(struct machine *m, struct error *e)
{
	static const struct irqchip_ops *const irqchips[] = {
		[IRQCHIP_KERNEL] = &irqchip_kernel,
		[IRQCHIP_SPLIT] = &irqchip_split,
		[IRQCHIP_USER] = &irqchip_user,
	};
	struct device_host *h = &m->host;

	platform_prepare(&m->kvm);
	m->irqchip = irqchips[m->config->irqchip];
	m->chip = m->irqchip->create(&m->kvm, h, &m->vcpus, m->config->cpus, e);
	if (!m->chip)
		return -EIO; /* e says what */
	h->irq = irq_create(m->irqchip->irq, m->chip, e);
	if (!h->irq)
		return -ENOMEM;
	m->windows = platform_windows(&m->memory, cpuid_physical_bits(&m->kvm));
	h->mmio_slots = platform_mmio_slots();
	h->pci = pci_root_create(h, &m->windows, e);
	if (!h->pci)
		return -EIO; /* e says what */
	account_buses(h);
	return 0;
}

static int make_device(struct machine *m, const struct device_config *config, struct error *e)
{
	struct device *d = NULL;
	int err = config->row->create(&m->host, config, &d, e);

	if (err) {
		if (config->flag)
			error_prefix(e, "%s: ", config->flag);
		return err;
	}
	d->next = m->devices;
	m->devices = d;
	return 0;
}

/* What every machine has, then what the user asked for. */
static int make_devices(struct machine *m, struct error *e)
{
	int err = 0;

	for (const struct device_row *const *row = device_registry; *row && !err; row++) {
		struct device_config config = { .row = *row };

		if ((*row)->class == CLASS_PLATFORM)
			err = make_device(m, &config, e);
	}
	for (unsigned i = 0; i < m->config->ndevices && !err; i++)
		err = make_device(m, &m->config->device[i], e);
	return err;
}

static int start_trace(struct machine *m, struct error *e)
{
	const struct config *c = m->config;
	const struct trace_config trace = {
		.path = strcmp(c->trace, "text") == 0 ? NULL : c->trace,
		.devices = c->trace_devices,
		.limit = c->trace_limit,
	};

	return trace_start(&m->trace, &trace, m->host.accounts, e);
}

static int make(struct machine *m, struct error *e)
{
	const struct config *c = m->config;
	int err;

	err = open_file(m, "kernel", c->kernel, &m->kernel_fd, e);
	if (!err && c->initrd)
		err = open_file(m, "initrd", c->initrd, &m->initrd_fd, e);
	if (err)
		return err;
	m->host.accounts = accounts_create();
	account_thread_begin(account_machine(m->host.accounts), "main");
	m->host.loop = m->host.accounts ? event_loop_create("main", e) : NULL;
	if (!m->host.loop)
		return -ENOMEM;
	event_loop_account(m->host.loop, account_machine(m->host.accounts));
	m->last_words.callback = last_words_said;
	m->last_words.opaque = m;
	err = event_timer_init(&m->last_words, m->host.loop);
	if (err)
		return error_set_errno(e, err, "cannot make a timer");
	err = catch_signals(m, e);
	if (!err)
		err = stats_start(&m->stats, c, m->host.loop,
				  &(struct stats_source){ m->host.accounts, &m->kvm, &m->vcpus },
				  e);
	if (!err)
		err = kvm_open(&m->kvm, e);
	if (!err)
		err = memory_create(&m->memory, &c->memory, LAYOUT_HOLE_BASE, LAYOUT_HIGH_RAM, e);
	if (!err)
		err = kvm_add_memory(&m->kvm, &m->memory, e);
	if (!err)
		err = make_buses(m, e);
	if (!err)
		err = make_chips(m, e);
	if (!err)
		err = vcpu_set_create(&m->vcpus, &m->kvm, c->cpus, m->host.pio, m->host.mmio,
				      vcpu_stopped, m, e);
	m->vcpus.accounts = m->host.accounts;
	if (!err) {
		vcpu_set_irq(&m->vcpus, m->irqchip->vcpu, m->chip);
		err = make_devices(m, e);
	}
	if (!err)
		stats_attach(&m->stats);
	accounts_calibrate(m->host.accounts);
	if (!err && c->trace)
		err = start_trace(m, e);
	return err ? err : reset(m, e);
}

static void unmake(struct machine *m)
{
	struct device *next;

	stats_stop(&m->stats);
	/* What may interrupt goes before the vCPUs, which are parked. */
	for (struct device *d = m->devices; d; d = next) {
		next = d->next;
		d->ops->destroy(d);
	}
	pci_root_destroy(m->host.pci);
	mappings_destroy(m->host.mappings);
	irq_destroy(m->host.irq);
	if (m->chip)
		m->irqchip->destroy(m->chip);
	vcpu_set_destroy(&m->vcpus);
	bus_destroy(m->host.pio);
	bus_destroy(m->host.mmio);
	memory_destroy(&m->memory);
	kvm_close(&m->kvm);
	event_timer_destroy(&m->last_words);
	event_del(&m->signals);
	if (m->signals.fd >= 0)
		close(m->signals.fd);
	event_loop_destroy(m->host.loop);
	trace_stop(m->trace); /* no other thread is left */
	account_thread_end();
	accounts_destroy(m->host.accounts);
	if (m->kernel_fd >= 0)
		close(m->kernel_fd);
	if (m->initrd_fd >= 0)
		close(m->initrd_fd);
}

static int run(struct machine *m, struct error *e)
{
	int err = resume_all(m, e);

	if (!err)
		err = event_loop_run(m->host.loop);
	if (err) {
		pause_all(m);
		m->status = STATUS_FAILED;
	}
	stats_finish(&m->stats, m->status);
	return m->status;
}

int machine_main(const struct config *config, int *signal, struct error *e)
{
	struct machine m = {
		.config = config,
		.kvm = { .system = -1, .vm = -1, .vfio = -1 },
		.memory = { .fd = -1 },
		.kernel_fd = -1,
		.initrd_fd = -1,
		.signals = { .fd = -1 },
		.error = e,
	};
	int status;

	m.host.memory = &m.memory;
	m.host.request = request;
	m.host.vfio_file = vfio_file;
	m.attention = (struct event_message){ .fn = serve_attention, .arg = &m };
	e->msg[0] = '\0';
	status = make(&m, e) ? STATUS_FAILED : run(&m, e);
	unmake(&m);
	*signal = m.signal;
	return status;
}
