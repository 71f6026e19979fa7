/*
 * Running violations: see violation.h.
 */
#include "guest.h"
#include "violation.h"

#define BROKEN_WITHIN_MS 1000
#define PAGE		 4096

struct virtio victim;
struct vq victim_queue;
uint8_t *page;

static struct virtio bystander;
static struct vq bystander_queue;
static struct blk_header header;
static volatile uint8_t status;
static uint8_t *sector;

void good_request(void)
{
	header = (struct blk_header){ .type = BLK_IN, .sector = 1 };
	status = 0xff;
	vq_describe(&victim_queue, 0, (uint64_t)&header, sizeof(header), VQ_NEXT, 1);
	vq_describe(&victim_queue, 1, (uint64_t)sector, BLK_SECTOR, VQ_NEXT | VQ_WRITE, 2);
	vq_describe(&victim_queue, 2, (uint64_t)&status, 1, VQ_WRITE, 0);
}

void offer(uint16_t head)
{
	vq_offer(&victim_queue, head);
	vq_kick(&victim_queue);
}

bool violations_begin(void)
{
	page = alloc(PAGE, PAGE);
	sector = alloc(BLK_SECTOR, BLK_SECTOR);
	return check(virtio_open(&bystander, &bystander_queue, VIRTIO_RNG, 0, 0) &&
			     virtio_pci_find(&victim, VIRTIO_BLK, 0) && virtio_begin(&victim, 0) &&
			     vq_setup(&victim_queue, &victim, 0, VICTIM_QUEUE),
		     "a victim and a bystander");
}

static bool bring_up(const struct violation *v)
{
	if (v->stage == RESET)
		return virtio_reset(&victim);
	if (!virtio_begin(&victim, v->features))
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
	return victim.transport->status(&victim) & VIRTIO_NEEDS_RESET;
}

static void run_one(const struct violation *v)
{
	static const struct violation again = { .stage = RUNNING };
	uint64_t bytes = 0;
	bool up = bring_up(v), as_expected = true;

	memset(page, 0, PAGE);
	v->commit();
	if (v->outcome == BREAKS)
		as_expected = wait_for(broken(), BROKEN_WITHIN_MS);
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

void violations_run(const struct violation *list, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		run_one(&list[i]);
}
