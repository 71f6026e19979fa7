/*
 * Each virtio device, each of its queues: chains that no driver offers, of random shapes and with
 * random bytes in them, with random features; and in between resets. mvm lives, another device
 * works throughout, and after a reset so does each of them. Seeded: --append="seed=N rounds=N" has
 * a run again. The bystander is one of two sources of random numbers that host.py adds; the other
 * is a victim as well.
 *
 * mvm: --net=virtio,restrict=on --console=virtio:null
 * mvm: --balloon=virtio --vsock=virtio:@tmp/v
 * mvm: --net=virtio,restrict=on,ring=packed --console=virtio:null,ring=packed
 * mvm: --balloon=virtio,ring=packed --vsock=virtio:@tmp/v,ring=packed
 * mvm: --net=virtio,restrict=on,transport=mmio --console=virtio:null,transport=mmio
 * mvm: --balloon=virtio,transport=mmio --vsock=virtio:@tmp/v,transport=mmio
 * mvm: --net=virtio,restrict=on,transport=mmio,ring=packed
 * mvm: --console=virtio:null,transport=mmio,ring=packed
 * mvm: --balloon=virtio,transport=mmio,ring=packed --vsock=virtio:@tmp/v,transport=mmio,ring=packed
 * seconds: 60
 * stderr: any
 */
#include "guest.h"
#include "virtio.h"

#define SEED	   0x64657669636573ull
#define ROUNDS	   16 /* of each device */
#define QUEUES	   8  /* of a device, at most looked at */
#define QUEUE_SIZE 16
#define BUFFER	   4096
#define HOLE	   0xd8000000ull
#define ALL_ONES   0xffffffffu
#define SOON_MS	   2000

#define VIRTIO_BALLOON 5
#define VIRTIO_VSOCK   19

/* A request that is right, so that it comes back: by which queue, and of what. */
static const struct device {
	unsigned type;
	const char *name;
	unsigned queue;
	uint32_t readable,
		writable; /* bytes; the readable ones are zeros but for what fill() says */
} devices[] = {
	{ VIRTIO_NET, "net", 1, 12 + 60, 0 },	/* transmit: header and frame */
	{ VIRTIO_CONSOLE, "console", 1, 5, 0 }, /* transmit */
	{ VIRTIO_BALLOON, "balloon", 1, 4, 0 }, /* deflate: a page number */
	{ VIRTIO_VSOCK, "vsock", 1, 44, 0 },	/* transmit: a packet to nobody */
	{ VIRTIO_RNG, "rng", 0, 0, 16 },
};

static struct virtio victim, bystander;
static struct vq queue[QUEUES], bystander_queue;
static unsigned nqueues;
static uint8_t *buffer[QUEUE_SIZE];
static uint64_t state;

static uint32_t random_below(uint32_t n)
{
	return (uint32_t)((random64(&state) >> 16) % n);
}

/* ---- bringing it up -------------------------------------------------------------------------- */

static bool find(const struct device *d)
{
	if (!virtio_find(&victim, d->type, 0) || !virtio_begin(&victim, 0))
		return false;
	for (nqueues = 0; nqueues < QUEUES && virtio_queue_max(&victim, nqueues); nqueues++)
		vq_allocate(&queue[nqueues], &victim, nqueues, QUEUE_SIZE);
	return nqueues > d->queue;
}

/* False if it does not take these features together. */
static bool bring_up(uint64_t features)
{
	if (!virtio_begin(&victim, features))
		return false;
	for (unsigned i = 0; i < nqueues; i++)
		vq_again(&queue[i]);
	virtio_ready(&victim);
	return true;
}

static bool works(const struct device *d)
{
	struct vq_buffer part[2];
	unsigned n = 0;
	uint32_t len;

	memset(buffer[0], 0, BUFFER);
	if (d->readable)
		part[n++] = (struct vq_buffer){ (uint64_t)buffer[0], d->readable, false };
	if (d->writable)
		part[n++] = (struct vq_buffer){ (uint64_t)buffer[1], d->writable, true };
	/* The balloon is told of a page that it never had; page 0 would do as well. */
	if (d->type == VIRTIO_BALLOON)
		*(uint32_t *)buffer[0] = (uint32_t)((uint64_t)buffer[2] >> 12);
	return bring_up(0) && vq_request(&queue[d->queue], part, n, &len, SOON_MS) &&
	       !(virtio_status(&victim) & VIRTIO_NEEDS_RESET);
}

/* ---- what is wrong with it ------------------------------------------------------------------- */

/* No page number of this guest's RAM: the balloon would take the guest itself away. */
static void fill(uint8_t *to, uint32_t len, bool page_numbers)
{
	uint32_t *word = (uint32_t *)to;
	uint32_t mask = random_below(2) ? ALL_ONES : 0xff;

	for (unsigned i = 0; i < (len + 3) / 4; i++)
		word[i] = page_numbers ? (uint32_t)random64(&state) | 0x100000
				       : (uint32_t)random64(&state) & mask;
}

static uint32_t some_length(void)
{
	static const uint32_t lengths[] = { 1, 2, 3, 4, 8, 10, 12, 43, 44, 45, 512, BUFFER };

	return random_below(3) ? lengths[random_below(ARRAY_SIZE(lengths))]
			       : 1 + random_below(BUFFER);
}

/* Mostly a chain that is good as such, so that the device gets to see its bytes. */
static unsigned some_chain(struct vq_desc *chain, bool page_numbers)
{
	unsigned n = 1 + random_below(random_below(4) ? 4 : QUEUE_SIZE);
	unsigned writable_from = random_below(n + 1), wrong = random_below(8);

	for (uint16_t i = 0; i < n; i++) {
		uint32_t len = some_length();

		fill(buffer[i], len, page_numbers);
		chain[i] = (struct vq_desc){ (uint64_t)buffer[i], len,
					     (uint16_t)((i >= writable_from ? VQ_WRITE : 0) |
							(i + 1u < n ? VQ_NEXT : 0)),
					     (uint16_t)(i + 1) };
	}
	if (wrong == 0)
		chain[random_below(n)].addr = HOLE;
	else if (wrong == 1)
		chain[random_below(n)].len = random_below(2) ? 0 : ALL_ONES;
	else if (wrong == 2)
		chain[random_below(n)].flags ^= VQ_WRITE;
	return n;
}

static void round(const struct device *d)
{
	struct vq_desc chain[QUEUE_SIZE];
	unsigned at = random_below(nqueues), n;

	if (!bring_up(random_below(2) ? 0 : random64(&state) & ~VIRTIO_F_PACKED))
		return;
	for (unsigned i = 0; i < nqueues; i++) {
		struct vq *q = &queue[(at + i) % nqueues];

		n = some_chain(chain, d->type == VIRTIO_BALLOON);
		vq_lay(q, chain, n);
		vq_show(q);
		vq_kick(q);
		/* Its buffers are what the next one changes while this one is read. */
	}
	delay_us(random_below(300));
	for (unsigned i = 0; i < 16; i += 4)
		read32(victim.config + i);
	write32(victim.config + 4 * random_below(4), (uint32_t)random64(&state));
}

static void torment(const struct device *d, unsigned rounds)
{
	unsigned lively = 0, healed = 0;
	uint64_t bytes = 0;

	if (!find(d)) {
		print("# no %s\n", d->name);
		return;
	}
	check(works(d), "%s works by %s", d->name, victim.transport->name);
	for (unsigned i = 0; i < rounds; i++) {
		round(d);
		lively += rng_request(&bystander_queue, &bytes, sizeof(bytes)) == sizeof(bytes);
		if (i % 4 == 3)
			healed += works(d);
	}
	check_equal(lively, rounds, "%s: another device works throughout", d->name);
	check_equal(healed, rounds / 4, "%s: and after a reset this one", d->name);
}

void main(void)
{
	uint64_t rounds = ROUNDS;

	state = SEED;
	cmdline_number("seed", &state);
	state = (state + 1) * 0x9e3779b97f4a7c15ull;
	cmdline_number("rounds", &rounds);
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		buffer[i] = alloc(BUFFER, BUFFER);
	/* The second one; the first is a victim, too. */
	if (!check(virtio_open(&bystander, &bystander_queue, VIRTIO_RNG, 1, 0), "a bystander"))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
		torment(&devices[i], (unsigned)rounds);
}
