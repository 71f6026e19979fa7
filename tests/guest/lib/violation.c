/*
 * Running violations: see violation.h.
 */
#include "guest.h"
#include "violation.h"

#define BROKEN_WITHIN_MS 8000 /* of a host that may be busy */
#define PAGE		 4096

struct virtio victim;
struct vq victim_queue;
uint8_t *page;
struct vq_desc chain[VICTIM_QUEUE];

static struct virtio bystander;
static struct vq bystander_queue;
static struct blk_header header;
static volatile uint8_t status;
static uint8_t *sector;

void good_request(void)
{
	header = (struct blk_header){ .type = BLK_IN, .sector = 1 };
	status = 0xff;
	chain[0] = (struct vq_desc){ (uint64_t)&header, sizeof(header), VQ_NEXT, 1 };
	chain[1] = (struct vq_desc){ (uint64_t)sector, BLK_SECTOR, VQ_NEXT | VQ_WRITE, 2 };
	chain[2] = (struct vq_desc){ (uint64_t)&status, 1, VQ_WRITE, 0 };
}

void offer(unsigned n)
{
	vq_lay(&victim_queue, chain, n);
	vq_show(&victim_queue);
	vq_kick(&victim_queue);
}

bool violations_begin(void)
{
	page = alloc(PAGE, PAGE);
	sector = alloc(BLK_SECTOR, BLK_SECTOR);
	return check(virtio_open(&bystander, &bystander_queue, VIRTIO_RNG, 0, 0) &&
			     virtio_find(&victim, VIRTIO_BLK, 0) && virtio_begin(&victim, 0) &&
			     vq_setup(&victim_queue, &victim, 0, VICTIM_QUEUE),
		     "a victim and a bystander");
}

/* A reset leaves no interrupt behind either. */
static bool bring_up(const struct violation *v)
{
	if (v->stage == RESET)
		return virtio_reset(&victim);
	if (!virtio_begin(&victim, v->features) || victim.transport->interrupts(&victim))
		return false;
	/* The queue's addresses may have been damaged. */
	if (v->stage == AGREED)
		return true;
	vq_again(&victim_queue);
	if (v->stage == RUNNING)
		virtio_ready(&victim);
	return true;
}

static bool reads(void)
{
	memset(sector, 0xee, 8);
	return blk_request(&victim_queue, BLK_IN, 1, sector, BLK_SECTOR) == BLK_S_OK &&
	       *(uint64_t *)sector == 0;
}

static bool broken(void)
{
	return virtio_status(&victim) & VIRTIO_NEEDS_RESET;
}

static bool told(void)
{
	return victim.transport->interrupts(&victim) & VIRTIO_ISR_CONFIG;
}

static void run_one(const struct violation *v)
{
	static const struct violation again = { .stage = RUNNING };
	uint64_t bytes = 0;
	bool up = bring_up(v), as_expected = true;

	memset(page, 0, PAGE);
	memset(chain, 0, sizeof(chain));
	v->commit();
	if (v->outcome == BREAKS)
		as_expected =
			wait_for(broken(), BROKEN_WITHIN_MS) && wait_for(told(), BROKEN_WITHIN_MS);
	else if (v->outcome == IGNORED)
		as_expected = reads() && !broken();
	check(up && as_expected, "%s: %s", v->name,
	      v->outcome == BREAKS    ? "the device needs a reset"
	      : v->outcome == IGNORED ? "it goes on"
				      : "done");
	check(rng_request(&bystander_queue, &bytes, sizeof(bytes)) == sizeof(bytes) &&
		      bring_up(&again) && reads(),
	      "%s: others work, and after a reset this one too", v->name);
}

/* A back end of another process need not offer all. */
static bool applies(const struct violation *v)
{
	uint64_t missing = v->features & ~virtio_features(&victim);
	unsigned ring = vq_is_packed(&victim_queue) ? ON_PACKED : ON_SPLIT;
	unsigned transport = virtio_is_mmio(&victim) ? ON_MMIO : ON_PCI;

	return !missing && (!(v->only & (ON_SPLIT | ON_PACKED)) || (v->only & ring)) &&
	       (!(v->only & (ON_PCI | ON_MMIO)) || (v->only & transport));
}

void violations_run(const struct violation *list, unsigned n)
{
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++) {
		if (!applies(&list[i]))
			continue;
		run_one(&list[i]);
		count++;
	}
	print("# %u violations by %s, %s ring\n", count, victim.transport->name,
	      vq_is_packed(&victim_queue) ? "packed" : "split");
}
