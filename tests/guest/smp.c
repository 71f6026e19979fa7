/*
 * Several processors: all start, each knows who it is, they share memory and reach each other by
 * IPIs.
 *
 * mvm: --cpus=1
 * mvm: --cpus=4
 * mvm: --cpus=4 --boot=linux64
 * mvm: --cpus=11 --memory=128M
 * mvm: --cpus=4 --irqchip=split
 * mvm: --cpus=11 --memory=128M --irqchip=user
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "smp.h"
#include "trap.h"
#include "uart.h"

#define VECTOR_IPI  0x40
#define VECTOR_ALL  0x41
#define INCREMENTS  200
#define SLOW_MS	    2000
#define BUSY_STARTS 5

#define TOPOLOGY_SMT  1
#define TOPOLOGY_CORE 2

/* What a processor finds out about itself. */
struct self {
	uint32_t lapic, leaf1, leafb, leafb_core_type, leafb_cores, logical;
	uint64_t apic_base;
	bool x2apic_works;
	uint32_t x2apic;
};

static volatile uint32_t counter;
static volatile uint32_t ipi_seen[SMP_MAX];

static void look(void *arg)
{
	struct self *s = arg;
	struct cpuid one = cpuid(1, 0), core = cpuid(0xb, 1);

	s->lapic = lapic_id();
	s->leaf1 = one.ebx >> 24;
	s->logical = one.ebx >> 16 & 0xff;
	s->leafb = cpuid(0xb, 0).edx;
	s->leafb_core_type = core.ecx >> 8 & 0xff;
	s->leafb_cores = core.ebx;
	s->apic_base = rdmsr(MSR_APIC_BASE);
}

static void to_x2apic(void *arg)
{
	struct self *s = arg;

	s->x2apic_works = lapic_to_x2apic();
	s->x2apic = lapic_id();
}

static void count(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < INCREMENTS; i++)
		atomic_add(&counter, 1);
}

static void ipi_arrived(void)
{
	ipi_seen[lapic_id() % SMP_MAX]++;
}

static void identities(void)
{
	static struct self self[SMP_MAX];
	unsigned n = acpi.ncpus, wrong = 0, bits = 0;

	while (1u << bits < n)
		bits++;
	for (unsigned i = 0; i < n; i++) {
		struct self *s = &self[i];
		bool ok;

		if (i == 0)
			look(s);
		else if (!smp_call(i, look, s, SLOW_MS))
			wrong++;
		ok = s->lapic == i && s->leaf1 == i && s->leafb == i &&
		     s->leafb_core_type == TOPOLOGY_CORE && s->leafb_cores == n &&
		     s->logical == 1u << bits && !!(s->apic_base & APIC_BASE_BSP) == (i == 0) &&
		     (s->apic_base & APIC_BASE_ENABLED);
		if (ok)
			continue;
		wrong++;
		print("# cpu %u: lapic %u leaf1 %u of %u leafb %u type %u cores %u base 0x%lx\n", i,
		      s->lapic, s->leaf1, s->logical, s->leafb, s->leafb_core_type, s->leafb_cores,
		      s->apic_base);
	}
	check_equal(wrong, 0, "each processor's APIC id, CPUID topology and BSP flag");
}

static void shared_memory(void)
{
	unsigned n = acpi.ncpus;
	bool done = true;

	counter = 0;
	for (unsigned i = 1; i < n; i++)
		smp_post(i, count, NULL);
	count(NULL);
	for (unsigned i = 1; i < n; i++)
		done = wait_for(smp_done(i), SLOW_MS) && done;
	check(done, "all finish");
	check_equal(counter, n * INCREMENTS, "locked additions to shared memory all count");
}

static void ipis(void)
{
	unsigned n = acpi.ncpus, reached = 0, all = 0;

	irq_handler(VECTOR_IPI, ipi_arrived);
	for (unsigned i = 1; i < n; i++) {
		lapic_ipi(i, ICR_FIXED | ICR_ASSERT | VECTOR_IPI);
		reached += wait_for(ipi_seen[i] == 1, SLOW_MS);
	}
	check_equal(reached, n - 1, "an IPI to each reaches it");
	irq_enable();
	lapic_ipi(0, ICR_FIXED | ICR_ASSERT | ICR_SELF | VECTOR_IPI);
	check(wait_for(ipi_seen[0] == 1, SLOW_MS), "an IPI to itself");
	irq_handler(VECTOR_ALL, ipi_arrived);
	lapic_ipi(0, ICR_FIXED | ICR_ASSERT | ICR_ALL | VECTOR_ALL);
	for (unsigned i = 0; i < n; i++)
		all += wait_for(ipi_seen[i] == 2, SLOW_MS);
	check_equal(all, n, "a broadcast reaches all");
	lapic_ipi(0, ICR_FIXED | ICR_ASSERT | ICR_ALL_BUT_SELF | VECTOR_ALL);
	for (unsigned i = 1; i < n; i++)
		wait_for(ipi_seen[i] == 3, SLOW_MS);
	delay_us(1000);
	irq_disable();
	all = 0;
	for (unsigned i = 0; i < n; i++)
		all += ipi_seen[i] == (i ? 3 : 2);
	check_equal(all, n, "a broadcast to all but itself");
}

static void x2apic(void)
{
	static struct self self[SMP_MAX];
	unsigned n = acpi.ncpus, right = 0, reached = 0;

	if (!(cpuid(1, 0).ecx & CPUID1_ECX_X2APIC)) {
		skip("x2APIC mode", "CPUID does not offer it");
		return;
	}
	for (unsigned i = 1; i < n; i++)
		smp_call(i, to_x2apic, &self[i], SLOW_MS);
	to_x2apic(&self[0]);
	for (unsigned i = 0; i < n; i++)
		right += self[i].x2apic_works && self[i].x2apic == i;
	check_equal(right, n, "x2APIC mode with the right ids");
	for (unsigned i = 1; i < n; i++) {
		uint32_t before = ipi_seen[i];

		lapic_ipi(i, ICR_FIXED | ICR_ASSERT | VECTOR_IPI);
		reached += wait_for(ipi_seen[i] == before + 1, SLOW_MS);
	}
	check_equal(reached, n - 1, "IPIs in x2APIC mode");
}

static void read_devices(void *arg)
{
	(void)arg;
	for (;;) {
		in8(COM1 + UART_SCR);
		read32(acpi.ioapic);
	}
}

void main(void)
{
	unsigned others = acpi.ncpus - 1, again = 0, busy = 0;

	irq_init();
	check_equal(smp_start_all(), others, "all others of %u start", acpi.ncpus);
	check_equal(smp_arrived(), others, "each once");
	identities();
	shared_memory();
	ipis();
	/* A processor that runs is stopped by INIT and can be started again. */
	if (others)
		again = smp_start(1);
	check_equal(again, others ? 1 : 0, "INIT and a second start");
	/* Also in the middle of an access that the host has to finish. */
	for (unsigned i = 0; others && i < BUSY_STARTS; i++) {
		smp_post(1, read_devices, NULL);
		delay_us(200);
		busy += smp_start(1);
	}
	check_equal(busy, others ? BUSY_STARTS : 0, "INIT while it reads devices");
	x2apic();
}
