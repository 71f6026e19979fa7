/*
 * Resets in place, by each way a PC has, with everything dirty, devices busy and other processors
 * running: the machine starts again from its kernel, RAM survives, and nothing else does. The tally
 * is kept in RAM; the last start reports it.
 *
 * mvm: --cpus=3 --rng=virtio --blk=virtio:@tmp/disk
 * mvm: --cpus=2 --rng=virtio --blk=vhost:@tmp/disk
 * mvm: --cpus=3 --rng=virtio --blk=virtio:@tmp/disk --irqchip=split
 * mvm: --cpus=3 --rng=virtio --blk=virtio:@tmp/disk --irqchip=user
 * mvm: --boot=linux64 --rng=virtio --blk=virtio:@tmp/disk,iothread=off
 * reboots: yes
 * stderr: any
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "smp.h"
#include "trap.h"
#include "uart.h"
#include "virtio.h"

#define STATE  0x3f00000ull /* 63 MiB: nobody else's */
#define MAGIC  0x6d766d2072657365ull
#define ROUNDS 3

#define MSR_STAR       0xc0000081
#define MSR_KERNEL_GS  0xc0000102
#define CR4_PGE	       0x80
#define CR0_NE	       0x20
#define CR4_VMXE       0x2000
#define MSR_EFER       0xc0000080
#define EFER_SVME      0x1000
#define MSR_FEATURES   0x3a /* IA32_FEATURE_CONTROL: locked, and VMX outside SMX */
#define MSR_VMX_BASIC  0x480
#define RTC_INDEX      0x70
#define RTC_B	       0x0b
#define RTC_PIE	       0x40
#define PIT_COMMAND    0x43
#define PIT_CHANNEL0   0x40
#define CONFIG_ADDRESS 0xcf8
#define GARBAGE	       0x5a5a5a50ull
#define VECTOR_ANY     0x80
#define TICKING_GSI    20

enum thing {
	UART,
	LAPIC,
	IOAPIC,
	PCI_DECODING,
	PCI_PLACES,
	PCI_PORT,
	MSIX,
	VIRTIO_STATUS,
	VIRTIO_WORKS,
	CPU_CONTROL,
	CPU_MSRS,
	OTHER_CPUS,
	RTC,
	THINGS
};

static const char *const names[THINGS] = {
	"UART registers",
	"local APIC",
	"I/O APIC",
	"PCI decoding",
	"BARs",
	"the PCI address port",
	"MSI-X",
	"virtio status",
	"virtio devices that work",
	"control registers",
	"MSRs",
	"other processors that wait to be started",
	"the clock's interrupt enables",
};

struct state {
	uint64_t magic;
	uint32_t starts;
	uint32_t stale[THINGS]; /* how often it was not fresh */
	uint64_t bar[2], star, kernel_gs, cr4, efer;
	uint64_t tsc;
	uint32_t time_went_back;
	uint32_t bss_dirty;
	uint32_t seen_by_ap;
	bool zero_at_first;
};

static struct state *const state = (struct state *)STATE;

static uint32_t bss; /* zero at each start */
static struct virtio disk, rng;
static struct vq disk_queue, rng_queue;

static const struct {
	void (*reset)(void);
	const char *name;
} ways[] = {
	{ reset_acpi, "ACPI reset register" },
	{ reset_cf9, "port 0xcf9" },
	{ reset_i8042, "keyboard controller" },
};

static uint64_t read_cr4(void)
{
	uint64_t cr4;

	asm volatile("movq %%cr4, %0" : "=r"(cr4));
	return cr4;
}

static void write_cr4(uint64_t cr4)
{
	asm volatile("movq %0, %%cr4" : : "r"(cr4));
}

static void expect(enum thing thing, bool fresh)
{
	state->stale[thing] += !fresh;
}

/* ---- what a fresh machine looks like --------------------------------------------------------- */

static void look_at_chips(void)
{
	bool masked = true;

	/* print_init() has been here: what it leaves alone must be as after power on. */
	expect(UART, in8(COM1 + UART_SCR) == 0 && !(in8(COM1 + UART_LSR) & UART_LSR_OE));
	expect(LAPIC, lapic_read(LAPIC_SVR) == 0xff && lapic_read(LAPIC_TPR) == 0 &&
			      (lapic_read(LAPIC_LVT_TIMER) & LAPIC_LVT_MASKED) &&
			      lapic_read(LAPIC_TIMER_COUNT) == 0 && !lapic_is_x2apic() &&
			      !lapic_bit(LAPIC_IRR, VECTOR_ANY));
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		masked = masked && (ioapic_read(IOAPIC_REDIR + 2 * i) & IOAPIC_MASKED);
	expect(IOAPIC, masked);
	out8(RTC_INDEX, RTC_B);
	expect(RTC, !(in8(RTC_INDEX + 1) & RTC_PIE));
	expect(PCI_PORT, in32(CONFIG_ADDRESS) == 0);
}

static void look_at_cpu(bool first)
{
	if (first) {
		state->star = rdmsr(MSR_STAR);
		state->kernel_gs = rdmsr(MSR_KERNEL_GS);
		state->cr4 = read_cr4();
		state->efer = rdmsr(MSR_EFER);
	}
	expect(CPU_MSRS,
	       rdmsr(MSR_STAR) == state->star && rdmsr(MSR_KERNEL_GS) == state->kernel_gs &&
		       (rdmsr(MSR_APIC_BASE) & 0xfff) == (APIC_BASE_ENABLED | APIC_BASE_BSP));
	expect(CPU_CONTROL, read_cr4() == state->cr4 && rdmsr(MSR_EFER) == state->efer);
	expect(OTHER_CPUS, smp_arrived() == 0);
}

static void look_at_function(struct virtio *v, unsigned type, uint64_t *home, bool first)
{
	struct pci_function f;

	if (!pci_find(0x1af4, (uint16_t)(0x1040 + type), 0, &f)) {
		expect(PCI_PLACES, false);
		return;
	}
	expect(PCI_DECODING, pci_read16(f.bdf, PCI_COMMAND) == 0);
	expect(MSIX, !(pci_read16(f.bdf, f.msix + MSIX_CONTROL) & 0xc000));
	if (first)
		*home = f.bar[0].address;
	expect(PCI_PLACES, f.bar[0].address == *home);
	virtio_pci_find(v, type, 0);
	expect(VIRTIO_STATUS, virtio_status(v) == 0 && virtio_queue_max(v, 0) > 0 &&
				      read16(v->common + COMMON_QUEUE_ENABLE) == 0);
	expect(MSIX, read32(v->pci.msix_table + 12) == MSIX_ENTRY_MASKED);
}

static void use_devices(void)
{
	uint64_t bytes[4] = { 0 };
	uint8_t *sector = alloc(BLK_SECTOR, 512);

	expect(VIRTIO_WORKS,
	       virtio_open(&rng, &rng_queue, VIRTIO_RNG, 0, 0) &&
		       rng_request(&rng_queue, bytes, sizeof(bytes)) == sizeof(bytes) && bytes[3]);
	expect(VIRTIO_WORKS,
	       virtio_open(&disk, &disk_queue, VIRTIO_BLK, 0, 0) &&
		       blk_request(&disk_queue, BLK_IN, 0, sector, BLK_SECTOR) == BLK_S_OK);
}

/* ---- making it anything but fresh ------------------------------------------------------------ */

/* One instruction of many accesses: nothing of it is to go on in the next machine. */
static void read_config_space(void)
{
	static uint8_t to[1024];
	uint64_t from = pci_ecam(rng.pci.bdf, 0);
	void *at = to;
	size_t n = sizeof(to);

	asm volatile("rep movsb" : "+S"(from), "+D"(at), "+c"(n) : : "memory");
}

static void ap_keeps_busy(void *arg)
{
	(void)arg;
	for (;;) {
		in8(COM1 + UART_SCR);
		read8(rng.isr);
		atomic_add(&state->seen_by_ap, 1);
		read_config_space();
	}
}

/* As a hypervisor is when its machine is reset: VMX operation, or SVM without interrupts. */
static void be_hypervisor(void)
{
	uint32_t *region = alloc(4096, 4096);
	uint64_t at = (uint64_t)region, cr0;

	if (cpuid(1, 0).ecx & 1u << 5) {
		if (!(rdmsr(MSR_FEATURES) & 1))
			wrmsr(MSR_FEATURES, 5);
		asm volatile("movq %%cr0, %0" : "=r"(cr0));
		asm volatile("movq %0, %%cr0" : : "r"(cr0 | CR0_NE));
		write_cr4(read_cr4() | CR4_VMXE);
		*region = (uint32_t)rdmsr(MSR_VMX_BASIC) & 0x7fffffff;
		asm volatile("vmxon %0" : : "m"(at) : "memory", "cc");
		print("# in VMX operation\n");
	} else if (cpuid(0x80000000, 0).eax >= 0x80000001 && cpuid(0x80000001, 0).ecx & 1u << 2) {
		wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
		asm volatile("clgi" : : : "memory");
		print("# with SVM\n");
	}
}

static void ap_resets(void *arg)
{
	void (*const *reset)(void) = arg;

	/* The boot processor is in the middle of it by then, or almost. */
	delay_us(200);
	(*reset)();
}

static void make_dirty(unsigned first_busy)
{
	static struct blk_header header = { .type = BLK_IN };
	uint8_t *to = alloc(64 * BLK_SECTOR, 4096);
	struct vq_buffer part[] = {
		{ (uint64_t)&header, sizeof(header), false },
		{ (uint64_t)to, 63 * BLK_SECTOR, true },
		{ (uint64_t)to + 63 * BLK_SECTOR, 1, true },
	};

	bss = 1;
	out8(COM1 + UART_SCR, 0xa5);
	wrmsr(MSR_STAR, GARBAGE);
	wrmsr(MSR_KERNEL_GS, GARBAGE);
	write_cr4(read_cr4() | CR4_PGE);
	out8(RTC_INDEX, RTC_B);
	out8(RTC_INDEX + 1, RTC_PIE | 2);
	out8(PIT_COMMAND, 0x34);
	out8(PIT_CHANNEL0, 0);
	out8(PIT_CHANNEL0, 1);
	ioapic_route(0, VECTOR_ANY, 0, 0);
	ioapic_route(TICKING_GSI, VECTOR_ANY, 0, IOAPIC_LEVEL);
	lapic_write(LAPIC_TPR, 0xf0);
	lapic_write(LAPIC_LVT_TIMER, LAPIC_TIMER_PERIODIC | VECTOR_ANY);
	lapic_write(LAPIC_TIMER_INIT, 1000);
	msix_route(&disk.pci, 0, VECTOR_ANY, 0);
	msix_control(&disk.pci, MSIX_ENABLE);
	virtio_queue_vector(&rng, 0, 0);
	out32(CONFIG_ADDRESS, 0x80000000);
	for (unsigned i = first_busy; i < acpi.ncpus; i++)
		smp_post(i, ap_keeps_busy, NULL);
	/* In flight over the reset, if the device is not quicker. */
	for (unsigned i = 0; i < 4; i++)
		vq_add(&disk_queue, part, 3);
	vq_kick(&disk_queue);
	pci_bar_move(&rng.pci, 0, 0xd0000000);
}

static void report(void)
{
	check_equal(state->starts, ROUNDS * ARRAY_SIZE(ways) + 1, "the machine started %u times",
		    state->starts);
	check(state->zero_at_first, "RAM was zero after power on");
	check_equal(state->bss_dirty, 0, "the kernel is loaded anew each time");
	check_equal(state->time_went_back, 0, "the TSC went on");
	for (unsigned i = 0; i < THINGS; i++)
		check_equal(state->stale[i], 0, "fresh each time: %s", names[i]);
	if (acpi.ncpus > 1)
		check(state->seen_by_ap > 0, "other processors were busy meanwhile");
	check(is_ram(STATE, sizeof(*state)), "RAM survived where the map says RAM is");
}

void main(void)
{
	bool first = state->magic != MAGIC, zero = state->magic == 0;
	bool from_ap;
	unsigned way;

	if (first) {
		memset(state, 0, sizeof(*state));
		state->magic = MAGIC;
		state->zero_at_first = zero;
	}
	state->bss_dirty += bss != 0;
	state->time_went_back += rdtsc() < state->tsc;
	look_at_cpu(first);
	look_at_chips();
	look_at_function(&rng, VIRTIO_RNG, &state->bar[0], first);
	look_at_function(&disk, VIRTIO_BLK, &state->bar[1], first);
	irq_init();
	expect(OTHER_CPUS, smp_start_all() == acpi.ncpus - 1);
	use_devices();
	way = state->starts++ % ARRAY_SIZE(ways);
	if (state->starts > ROUNDS * ARRAY_SIZE(ways)) {
		report();
		return;
	}
	print("# start %u, then reset by %s\n", state->starts, ways[way].name);
	state->tsc = rdtsc();
	from_ap = acpi.ncpus > 1 && state->starts % 2;
	make_dirty(from_ap ? 2 : 1);
	be_hypervisor();
	if (from_ap) {
		smp_post(1, ap_resets, (void *)&ways[way].reset);
		for (unsigned i = 0; i < 100; i++)
			read_config_space();
	} else {
		ways[way].reset();
	}
	check(false, "reset by %s does nothing", ways[way].name);
}
