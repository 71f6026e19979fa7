/*
 * Posted writes: what the IDE controller's parameter registers are told waits in KVM until
 * something exits. Nobody can tell: what is read back is what this processor wrote last, while
 * another one's exits make mvm do the writes at any time, and more of them than KVM holds lose
 * nothing. host.py counts them.
 *
 * mvm: --blk=emulated:@tmp/disk
 * mvm: --blk=emulated:@tmp/disk --cpus=2
 * mvm: --blk=emulated:@tmp/disk --cpus=2 --irqchip=user
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "pci.h"
#include "smp.h"
#include "trap.h"

#define BASE	0x1f0
#define NOBODY	0xed
#define ROUNDS	500u
#define IN_ROW	1000u /* KVM's ring holds 170 */
#define SLOW_MS 5000

static volatile bool over;
static volatile unsigned exits;

static void bother(void *arg)
{
	(void)arg;
	while (!over) {
		in8(NOBODY);
		exits++;
	}
}

/* One of the registers is read, so that what waits has come by different ways to its end. */
static unsigned rounds(void)
{
	uint64_t state = 0x706f73746564ull;
	unsigned wrong = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t r = random64(&state);
		unsigned look = 2 + (unsigned)(r >> 60) % 4;

		for (unsigned reg = 1; reg <= 5; reg++)
			out8((uint16_t)(BASE + reg), (uint8_t)(r >> 8 * reg));
		wrong += in8((uint16_t)(BASE + look)) != (uint8_t)(r >> 8 * look);
	}
	return wrong;
}

void main(void)
{
	static struct pci_function ide;
	bool helped = acpi.ncpus > 1;

	irq_init();
	if (!check(pci_find(0x8086, 0x24cb, 0, &ide), "the controller is there"))
		return;
	pci_write8(ide.bdf, 9, 0x8a); /* compatibility mode */
	pci_enable(&ide);
	if (helped) {
		smp_start(1);
		smp_post(1, bother, NULL);
		check(wait_for(exits > 0, SLOW_MS), "another processor exits all the time");
	}
	check_equal(rounds(), 0, "what is read is what was written last");

	for (unsigned i = 0; i < IN_ROW; i++)
		out8(BASE + 3, (uint8_t)(i * 7));
	check_equal(in8(BASE + 3), (uint8_t)((IN_ROW - 1) * 7), "more of them than fit");

	/* LBA HIGH and, behind the registers that wait, DEVICE. */
	out8(BASE + 4, 0x12);
	out16(BASE + 5, 0xe534);
	check_equal(in8(BASE + 4), 0x12, "a write that waits");
	check_equal(in8(BASE + 5), 0x34, "and one that waits in part only");
	check_equal(in8(BASE + 6) & 0x4f, 0x45, "and its other part");

	over = true;
	if (helped)
		check(wait_for(smp_done(1), SLOW_MS), "the other processor is done");
	out8(BASE + 5, 1); /* waits until the end */
}
