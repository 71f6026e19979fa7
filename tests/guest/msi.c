/*
 * MSI-X and INTx through a virtio device that interrupts when it is asked to: routing, masks and
 * pending bits of one vector and of the whole function, and the vectors' way round the ring.
 *
 * mvm: --rng=virtio
 * mvm: --rng=virtio --cpus=2
 * mvm: --rng=virtio --cpus=2 --irqchip=split
 * mvm: --rng=virtio --cpus=2 --irqchip=user
 * mvm: --rng=virtio,event-idx=off
 * mvm: --rng=virtio,ring=packed
 */
#include "acpi.h"
#include "apic.h"
#include "guest.h"
#include "smp.h"
#include "trap.h"
#include "virtio.h"

#define VECTOR_QUEUE 0x71
#define VECTOR_OTHER 0x72
#define VECTOR_INTX  0x73
#define QUEUE_ENTRY  1
#define SOON_MS	     1000
#define QUIET_MS     10

static struct virtio rng;
static struct vq queue;
static uint8_t bytes[16];

/* One request, waited for by its used entry, so that its interrupt has been sent too. */
static bool ask(void)
{
	return rng_request(&queue, bytes, sizeof(bytes)) == sizeof(bytes);
}

static bool interrupts(unsigned vector)
{
	uint32_t before = irq_count[vector];

	return ask() && (irq_count[vector] != before || irq_wait(vector, 1, SOON_MS));
}

static bool quiet(unsigned vector)
{
	return ask() && irq_during(vector, QUIET_MS) == 0;
}

static void routing(void)
{
	const struct pci_function *f = &rng.pci;
	uint64_t entry = f->msix_table + QUEUE_ENTRY * MSIX_ENTRY_SIZE;

	check(f->msix && f->msix_vectors >= 2, "MSI-X with %u vectors", f->msix_vectors);
	check_equal(read32(entry + 12), MSIX_ENTRY_MASKED, "vectors are masked after power on");
	check_equal(virtio_queue_vector(&rng, 0, QUEUE_ENTRY), QUEUE_ENTRY, "the queue's vector");
	check_equal(virtio_queue_vector(&rng, 0, (uint16_t)f->msix_vectors), VIRTIO_NO_VECTOR,
		    "one that does not exist is refused");
	check_equal(virtio_config_vector(&rng, 0x1234), VIRTIO_NO_VECTOR,
		    "also for the configuration");
	virtio_queue_vector(&rng, 0, QUEUE_ENTRY);
	msix_route(f, QUEUE_ENTRY, VECTOR_QUEUE, 0);
	check_equal(read64(entry) & 0xffffffff, 0xfee00000, "the table keeps an address");
	check_equal(read32(entry + 8), VECTOR_QUEUE, "and data");
	msix_control(f, MSIX_ENABLE);
	check(interrupts(VECTOR_QUEUE), "a request ends with an interrupt");
	check(interrupts(VECTOR_QUEUE), "and the next");
	check_equal(read8(rng.isr), 0, "ISR is not used with MSI-X");
	msix_route(f, QUEUE_ENTRY, VECTOR_OTHER, 0);
	check(interrupts(VECTOR_OTHER), "another vector in the table");
	msix_route(f, QUEUE_ENTRY, VECTOR_QUEUE, 0);
}

static void masks(void)
{
	const struct pci_function *f = &rng.pci;

	msix_mask(f, QUEUE_ENTRY, true);
	check(quiet(VECTOR_QUEUE), "masked, it does not interrupt");
	check(msix_pending(f, QUEUE_ENTRY), "but is pending");
	check(ask(), "a second request while masked");
	msix_mask(f, QUEUE_ENTRY, false);
	check(irq_wait(VECTOR_QUEUE, 1, SOON_MS), "unmasked, the interrupt comes");
	check_equal(irq_during(VECTOR_QUEUE, QUIET_MS), 0, "once");
	check(!msix_pending(f, QUEUE_ENTRY), "and is no longer pending");

	msix_control(f, MSIX_ENABLE | MSIX_FUNCTION_MASK);
	check(quiet(VECTOR_QUEUE), "the function masked, it does not interrupt");
	check(msix_pending(f, QUEUE_ENTRY), "but is pending");
	msix_control(f, MSIX_ENABLE);
	check(irq_wait(VECTOR_QUEUE, 1, SOON_MS), "unmasked, the interrupt comes");

	/* A driver may change a vector while it is masked; the pending one goes to the new. */
	msix_mask(f, QUEUE_ENTRY, true);
	ask();
	msix_route(f, QUEUE_ENTRY, VECTOR_OTHER, 0);
	check(irq_wait(VECTOR_OTHER, 1, SOON_MS), "pending over a change of vector");
	msix_route(f, QUEUE_ENTRY, VECTOR_QUEUE, 0);
}

static void other_cpu(void)
{
	uint32_t before = irq_count[VECTOR_OTHER];

	if (acpi.ncpus < 2)
		return;
	if (!check(smp_start(1), "the other processor starts"))
		return;
	msix_route(&rng.pci, QUEUE_ENTRY, VECTOR_OTHER, 1);
	/* Interrupts are off here: only the other one can take it. */
	check(ask() && wait_for(irq_count[VECTOR_OTHER] == before + 1, SOON_MS),
	      "a message to the other processor");
	msix_route(&rng.pci, QUEUE_ENTRY, VECTOR_QUEUE, 0);
}

static void suppression(void)
{
	vq_interrupts(&queue, false);
	check(quiet(VECTOR_QUEUE), "no interrupt where the driver wants none");
	vq_interrupts(&queue, true);
	check(interrupts(VECTOR_QUEUE), "and again where it does");
}

/* With MSI-X off the device has its pin: level, shared, with the reason in ISR. */
static void intx(void)
{
	unsigned gsi = pci_read8(rng.pci.bdf, PCI_INTERRUPT_LINE);

	check_equal(pci_read8(rng.pci.bdf, PCI_INTERRUPT_PIN), 1, "it has INTA#");
	if (!check(gsi >= 16 && gsi < 24, "on GSI %u", gsi))
		return;
	msix_control(&rng.pci, 0);
	pci_write16(rng.pci.bdf, PCI_COMMAND,
		    PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF);
	ask();
	check(pci_read16(rng.pci.bdf, PCI_STATUS) & PCI_STATUS_INTERRUPT,
	      "the status register shows the interrupt");
	ioapic_route(gsi, VECTOR_INTX, 0, IOAPIC_LEVEL);
	check_equal(irq_during(VECTOR_INTX, QUIET_MS), 0, "disabled, the pin stays quiet");
	ioapic_mask(gsi);
	pci_enable(&rng.pci);
	check(ioapic_read(IOAPIC_REDIR + 2 * gsi) & IOAPIC_MASKED, "its pin is masked");
	check_equal(read8(rng.isr), VIRTIO_ISR_QUEUE, "ISR has the reason");
	check_equal(read8(rng.isr), 0, "reading it takes the reason");
	check(!(pci_read16(rng.pci.bdf, PCI_STATUS) & PCI_STATUS_INTERRUPT), "and the interrupt");
	/* One edge of the pin, seen as such. */
	ioapic_route(gsi, VECTOR_INTX, 0, 0);
	check(interrupts(VECTOR_INTX), "INTA# interrupts");
	check_equal(read8(rng.isr), VIRTIO_ISR_QUEUE, "for the queue");
	check(interrupts(VECTOR_INTX), "and again");
	read8(rng.isr);
	ioapic_mask(gsi);
}

void main(void)
{
	irq_init();
	if (!check(virtio_open(&rng, &queue, VIRTIO_RNG, 0, 0), "virtio-rng is there"))
		return;
	routing();
	masks();
	other_cpu();
	suppression();
	intx();
}
