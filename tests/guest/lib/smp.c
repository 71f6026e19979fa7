/*
 * Starting other processors and giving them work: see smp.h. A processor without work halts with
 * interrupts on, so that it costs nothing where there are fewer real ones; an IPI wakes it.
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "smp.h"
#include "trap.h"

#define AP_PAGE		0x10000 /* entry.S */
#define VECTOR_WAKE	0xf0
#define SECOND_AFTER_MS 50
#define HERE_WITHIN_MS	3000

extern const char ap_page[];
extern const uint32_t ap_page_size;
extern volatile uint32_t ap_arrived;

/* One a processor, by its APIC id. */
static struct mailbox {
	volatile bool here;
	void (*volatile fn)(void *arg);
	void *volatile arg;
} mailbox[SMP_MAX];

void start_ap(void) __attribute__((noreturn));
void start_ap(void)
{
	struct mailbox *m;

	trap_load();
	lapic_enable();
	m = &mailbox[lapic_id() % SMP_MAX];
	m->here = true;
	for (;;) {
		/* The IPI that came since the last look still wakes: sti takes effect late. */
		while (!m->fn)
			asm volatile("sti\n\thlt\n\tcli" : : : "memory");
		m->fn(m->arg);
		barrier_compiler();
		m->fn = NULL;
	}
}

bool smp_start(uint32_t apic_id)
{
	struct mailbox *m = &mailbox[apic_id % SMP_MAX];

	memcpy((void *)AP_PAGE, ap_page, ap_page_size);
	m->here = false;
	lapic_ipi(apic_id, ICR_INIT | ICR_ASSERT);
	delay_us(200);
	m->fn = NULL; /* what it was at it does not come back to */
	lapic_ipi(apic_id, ICR_STARTUP | ICR_ASSERT | AP_PAGE >> 12);
	if (wait_for(m->here, SECOND_AFTER_MS))
		return true;
	/* The manual wants a second one if the first is lost; one already started ignores it. */
	lapic_ipi(apic_id, ICR_STARTUP | ICR_ASSERT | AP_PAGE >> 12);
	return wait_for(m->here, HERE_WITHIN_MS);
}

unsigned smp_start_all(void)
{
	uint32_t self = lapic_id();
	unsigned started = 0;

	for (unsigned i = 0; i < acpi.ncpus; i++)
		if (acpi.apic_id[i] != self && smp_start(acpi.apic_id[i]))
			started++;
	return started;
}

unsigned smp_arrived(void)
{
	return ap_arrived;
}

void smp_post(uint32_t apic_id, void (*fn)(void *arg), void *arg)
{
	struct mailbox *m = &mailbox[apic_id % SMP_MAX];

	m->arg = arg;
	barrier_compiler();
	m->fn = fn;
	lapic_ipi(apic_id, ICR_FIXED | ICR_ASSERT | VECTOR_WAKE);
}

bool smp_done(uint32_t apic_id)
{
	return !mailbox[apic_id % SMP_MAX].fn;
}

bool smp_call(uint32_t apic_id, void (*fn)(void *arg), void *arg, unsigned ms)
{
	smp_post(apic_id, fn, arg);
	return wait_for(smp_done(apic_id), ms);
}
