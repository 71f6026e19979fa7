/*
 * A guest that pokes at random, on every processor at once: ports, memory-mapped registers, PCI
 * configuration space, the devices' registers and their queues. Seeded, so that a run can be had
 * again (--append="seed=N steps=N"). mvm lives, and in the end the devices can be put right and
 * work.
 *
 * What would end or stop the machine by right is left out: reset and power registers, the panic
 * port, and the interrupt chips, which would only be told to send INIT or NMI to this processor.
 * Addresses that a device may be made to write to are either an arena or no RAM at all.
 *
 * mvm: --cpus=2 --rng=virtio --blk=virtio:@tmp/disk
 * mvm: --cpus=2 --rng=virtio --blk=virtio:@tmp/disk,queues=4,iothread=off --append=seed=2
 * mvm: --rng=virtio,ring=packed --blk=virtio:@tmp/disk,ring=packed --append=seed=3
 * mvm: --rng=virtio --blk=vhost:@tmp/disk,queues=2 --append=seed=4
 * mvm: --rng=virtio --blk=vhost:@tmp/disk,ring=packed --append=seed=5
 * mvm: --cpus=2 --rng=virtio,transport=mmio --blk=virtio:@tmp/disk,transport=mmio --append=seed=6
 * mvm: --rng=virtio --blk=virtio:@tmp/disk,ring=packed,transport=mmio,iothread=off --append=seed=7
 * mvm: --cpus=2 --rng=virtio --blk=vhost:@tmp/disk,ring=packed,transport=mmio --append=seed=8
 * seconds: 40
 * stderr: any
 */
#include "acpi.h"
#include "guest.h"
#include "smp.h"
#include "uart.h"
#include "virtio.h"

#define SEED	     0x686f7374696c65ull
#define STEPS	     8000 /* a processor */
#define ARENA_SIZE   (1u << 20)
#define MAX_FUNCTION 4
#define DEVICES	     2

/* Where queue 0 is put in the arena: room for 1024 descriptors each. */
#define ARENA_DRIVER 0x4000
#define ARENA_DEVICE 0x6000

struct agent {
	uint64_t state;
	uint32_t steps;
};

static uint64_t arena;
static unsigned nfunctions;
static struct pci_function function[MAX_FUNCTION];
static struct virtio device[DEVICES];

/* ---- choosing -------------------------------------------------------------------------------- */

/* Ports whose effect is the end. Wide accesses from below reach them, too. */
static bool deadly(uint16_t port)
{
	return (port >= 0x5d && port <= 0x64) || (port >= 0x502 && port <= 0x505) ||
	       (port >= 0x5fd && port <= 0x602) || (port >= 0xcf6 && port <= 0xcf9) ||
	       (port >= COM1 - 3 && port <= COM1 + 7);
}

/* Fixed devices more often than the empty rest. */
static uint16_t some_port(uint64_t r)
{
	static const uint16_t bases[] = { 0x20, 0x40, 0x61, 0x70, 0xa0, 0x600, 0xcfc, 0x6000 };

	return (uint16_t)(r & 0x100 ? r >> 16 : bases[r & 7] + (r >> 16 & 7));
}

/*
 * A value that is safe as (half of) an address: an edge case, no RAM, or the arena. And as MSI
 * data: bits 8 to 10 would choose INIT and NMI.
 */
static uint32_t some_value(uint64_t r)
{
	switch (r & 7) {
	case 0:
		return 0;
	case 1:
		return 0xffffffff & ~0x700u;
	case 2:
		return (uint32_t)(r >> 8 & 0xff);
	case 3:
	case 4:
		return (uint32_t)(arena + (r >> 8 & (ARENA_SIZE - 1) & ~0xf0fu));
	case 5:
		return 1u << (r >> 8 & 31) & ~0x700u;
	default:
		return ((uint32_t)(r >> 8) | 0x80000000) & ~0x700u;
	}
}

static void poke_port(uint64_t r, uint64_t v)
{
	uint16_t port = some_port(r);
	uint32_t value = (uint32_t)v;

	if (deadly(port))
		return;
	switch (r >> 40 & 7) {
	case 0:
		out8(port, (uint8_t)value);
		break;
	case 1:
		out16(port, (uint16_t)value);
		break;
	case 2:
		out32(port, value);
		break;
	case 3:
		ins8(port, (void *)arena, r >> 48 & 63);
		break;
	case 4:
		ins32(port, (void *)arena, r >> 48 & 15);
		break;
	case 5:
		in16(port);
		break;
	case 6:
		in32(port);
		break;
	default:
		in8(port);
		break;
	}
}

static void poke_memory(uint64_t address, uint64_t r, uint64_t v)
{
	uint32_t value = some_value(v);

	switch (r >> 40 & 15) {
	case 0:
		write8(address, (uint8_t)value);
		break;
	case 1:
		write16(address, (uint16_t)value);
		break;
	case 2:
		write64(address, (uint64_t)some_value(v >> 20) << 32 | value);
		break;
	case 3:
		read8(address);
		break;
	case 4:
		read16(address);
		break;
	case 5:
		read32(address);
		break;
	case 6:
		read64(address);
		break;
	default:
		write32(address, value);
		break;
	}
}

/* Somewhere in a function's configuration space; mostly where something is. */
static void poke_config(uint64_t r, uint64_t v)
{
	pci_address bdf = r & 0x100 ? function[r % nfunctions].bdf : (pci_address)(r >> 16 & 0xff);
	unsigned offset = (unsigned)(r >> 24 & (r & 0x200 ? 0xff : 0xfff));

	if (r & 0x400)
		pci_cf8_write(bdf, offset, 1u << (v >> 60) % 3, some_value(v));
	else
		poke_memory(pci_ecam(bdf, offset), r, v);
}

/* Where a device's registers were at first. By PCI they are a few bytes in each of some pages. */
static void poke_registers(uint64_t r, uint64_t v)
{
	const struct virtio *d = &device[r % DEVICES];
	uint64_t page = r >> 16 & 7;

	if (virtio_is_mmio(d))
		poke_memory(d->common + (r >> 24 & (r & 0x800 ? 0xfff : 0xff)), r, v);
	else
		poke_memory(d->pci.bar[0].address + (page << 12) +
				    (r >> 24 & (page && (r & 0x800) ? 0xfff : 0x3f)),
			    r, v);
}

static void poke_window(uint64_t r, uint64_t v)
{
	poke_memory(0xc0000000 + (r >> 16 & 0x1ffff800) + (r & 7), r, v);
}

/* Now and then things are put into the order in which more can go wrong. */
static void bring_back(uint64_t r)
{
	const struct virtio *d = &device[r % DEVICES];

	if (!virtio_is_mmio(d)) {
		pci_write32(d->pci.bdf, PCI_BAR0, (uint32_t)d->pci.bar[0].address);
		pci_write32(d->pci.bdf, PCI_BAR0 + 4, 0);
		pci_write16(d->pci.bdf, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	}
	virtio_set_status(d, 0);
	virtio_set_status(d, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	virtio_set_features(d, VIRTIO_F_VERSION_1 | (r & 0x1000 ? VIRTIO_F_PACKED : 0) |
				       (r & 0x2000 ? VIRTIO_F_INDIRECT : 0) |
				       (r & 0x4000 ? VIRTIO_F_EVENT_IDX : 0));
	virtio_set_status(d, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	virtio_write(d, QUEUE_SELECT, 0);
	virtio_write_address(d, QUEUE_DESC, arena);
	virtio_write_address(d, QUEUE_DRIVER, arena + ARENA_DRIVER);
	virtio_write_address(d, QUEUE_DEVICE, arena + ARENA_DEVICE);
	virtio_write(d, QUEUE_ENABLE, 1);
	virtio_ready(&device[r % DEVICES]);
}

static void ring_bell(const struct virtio *d)
{
	if (virtio_is_mmio(d))
		write32(d->notify, 0);
	else
		write16(d->notify, 0);
}

static uint16_t some_flags(uint64_t r, uint64_t v)
{
	return (uint16_t)(v >> 16 & (r & 0x800 ? 0xffff : 3));
}

/* A descriptor, or the available ring: as a split ring's or, both at one place, as a packed one's.
 */
static void scribble(uint64_t r, uint64_t v)
{
	volatile struct vq_desc *d = (volatile struct vq_desc *)arena + (r >> 16 & 15);
	volatile struct vq_packed_desc *p = (volatile struct vq_packed_desc *)d;
	volatile uint16_t *avail = (volatile uint16_t *)(arena + ARENA_DRIVER);

	if (r & 0x100) {
		d->addr = r & 0x200 ? some_value(v) : arena + (v & 0xff0);
		d->len = r & 0x400 ? (uint32_t)(v >> 32) : (uint32_t)(v >> 32 & 0x3ff);
		if (r & 0x1000) {
			p->id = (uint16_t)(v >> 48 & 31);
			p->flags = (uint16_t)((some_flags(r, v) & ~(VQ_AVAIL | VQ_USED)) |
					      (r & 0x2000 ? VQ_AVAIL : VQ_USED));
		} else {
			d->flags = some_flags(r, v);
			d->next = (uint16_t)(v >> 48 & 31);
		}
	} else {
		avail[2 + (r >> 16 & 15)] = (uint16_t)(v & 31);
		avail[1] = (uint16_t)(avail[1] + (r & 0x600 ? 1 : v));
	}
	ring_bell(&device[r >> 32 & 1]);
}

static void step(struct agent *a)
{
	uint64_t r = random64(&a->state), v = random64(&a->state);

	switch (r >> 60) {
	case 0:
	case 1:
		poke_port(r, v);
		break;
	case 2:
	case 3:
		poke_config(r, v);
		break;
	case 4:
		poke_window(r, v);
		break;
	case 5:
		if ((r >> 52 & 7) == 0)
			bring_back(r);
		break;
	case 6:
	case 7:
	case 8:
	case 9:
		scribble(r, v);
		break;
	default:
		poke_registers(r, v);
		break;
	}
}

static void storm(void *arg)
{
	struct agent *a = arg;

	for (uint32_t i = 0; i < a->steps; i++)
		step(a);
}

/* The UART in its loop, so that the console hears nothing of it. */
static void storm_uart(struct agent *a, unsigned steps)
{
	print_drain();
	out8(COM1 + UART_MCR, UART_MCR_LOOP);
	for (unsigned i = 0; i < steps; i++) {
		uint64_t r = random64(&a->state);
		uint16_t port = (uint16_t)(COM1 + (r & 7));
		uint8_t value = (uint8_t)(r >> 8);

		if (r & 0x10000)
			in8(port);
		else if ((r & 7) == UART_MCR)
			out8(port, value | UART_MCR_LOOP);
		else
			out8(port, value);
	}
	out8(COM1 + UART_LCR, UART_LCR_8N1);
	out8(COM1 + UART_IER, 0);
	out8(COM1 + UART_FCR, UART_FCR_CLEAR_RX | UART_FCR_CLEAR_TX | UART_FCR_ENABLE);
	print_init();
}

/* ---- afterwards ------------------------------------------------------------------------------ */

/* Puts configuration space back as it was found. */
static void repair(const struct pci_function *f)
{
	pci_write16(f->bdf, PCI_COMMAND, 0);
	for (unsigned n = 0; n < 6; n++) {
		if (!f->bar[n].size)
			continue;
		pci_write32(f->bdf, PCI_BAR0 + 4 * n, (uint32_t)f->bar[n].address);
		if (f->bar[n].wide)
			pci_write32(f->bdf, PCI_BAR0 + 4 * n + 4,
				    (uint32_t)(f->bar[n].address >> 32));
	}
	msix_control(f, 0);
}

static void still_works(void)
{
	struct virtio *rng = &device[0], *disk = &device[1];
	struct vq queue;
	uint64_t bytes = 0;
	uint8_t *sector = alloc(BLK_SECTOR, BLK_SECTOR);

	for (unsigned i = 0; i < nfunctions; i++)
		repair(&function[i]);
	check(virtio_find(rng, VIRTIO_RNG, 0) && virtio_reset(rng), "rng can be reset");
	check(virtio_find(disk, VIRTIO_BLK, 0) && virtio_reset(disk), "disk can be reset");
	check(virtio_open(rng, &queue, VIRTIO_RNG, 0, 0) &&
		      rng_request(&queue, &bytes, sizeof(bytes)) == sizeof(bytes),
	      "rng works");
	check(virtio_open(disk, &queue, VIRTIO_BLK, 0, 0) &&
		      blk_request(&queue, BLK_IN, 0, sector, BLK_SECTOR) == BLK_S_OK,
	      "disk works");
}

void main(void)
{
	static struct agent agent[2];
	uint64_t seed = SEED, steps = STEPS;
	bool other;

	cmdline_number("seed", &seed);
	cmdline_number("steps", &steps);
	arena = (uint64_t)alloc(ARENA_SIZE, 1 << 21);
	for (unsigned slot = 0; slot < 32 && nfunctions < MAX_FUNCTION; slot++)
		if (pci_read16(PCI_BDF(0, slot, 0), PCI_VENDOR) != 0xffff)
			pci_probe(PCI_BDF(0, slot, 0), &function[nfunctions++]);
	if (!check(virtio_find(&device[0], VIRTIO_RNG, 0) && virtio_find(&device[1], VIRTIO_BLK, 0),
		   "two devices"))
		return;
	print("# seed=%lu steps=%lu, %u functions\n", seed, steps, nfunctions);
	other = acpi.ncpus > 1 && smp_start(1);
	for (unsigned i = 0; i < 2; i++)
		agent[i] = (struct agent){ seed * 2 + i + 1, (uint32_t)steps };
	if (other)
		smp_post(1, storm, &agent[1]);
	storm(&agent[0]);
	if (other)
		check(wait_for(smp_done(1), 30000), "the other processor comes to its end");
	check(true, "%lu random steps on %u processors", steps, acpi.ncpus);
	storm_uart(&agent[0], 2000);
	check(true, "2000 more on the UART");
	still_works();
}
