/*
 * A virtio driver kit (Virtio 1.2) that hides nothing: devices are found and brought up step by
 * step, rings are plain structures in guest memory, and a test may write anything anywhere.
 * Three layers: a transport (virtio_pci.c, virtio_mmio.c: where its registers are), a ring
 * (vq_split.c, vq_packed.c), requests (virtio_dev.c). A test that keeps to the calls below runs on
 * either transport with either ring: which ones, mvm's flags say.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include "cpu.h"
#include "pci.h"

#define VIRTIO_NET     1
#define VIRTIO_BLK     2
#define VIRTIO_CONSOLE 3
#define VIRTIO_RNG     4

#define VIRTIO_ACKNOWLEDGE 1
#define VIRTIO_DRIVER	   2
#define VIRTIO_DRIVER_OK   4
#define VIRTIO_FEATURES_OK 8
#define VIRTIO_NEEDS_RESET 64
#define VIRTIO_FAILED	   128

#define VIRTIO_F_INDIRECT   (1ull << 28)
#define VIRTIO_F_EVENT_IDX  (1ull << 29)
#define VIRTIO_F_VERSION_1  (1ull << 32)
#define VIRTIO_F_PACKED	    (1ull << 34)
#define VIRTIO_F_RING_RESET (1ull << 40)

#define VIRTIO_ISR_QUEUE  1
#define VIRTIO_ISR_CONFIG 2
#define VIRTIO_NO_VECTOR  0xffff

/* struct virtio_pci_common_cfg, section 4.1.4.3: offsets. */
#define COMMON_DEVICE_FEATURE_SELECT 0x00
#define COMMON_DEVICE_FEATURE	     0x04
#define COMMON_DRIVER_FEATURE_SELECT 0x08
#define COMMON_DRIVER_FEATURE	     0x0c
#define COMMON_CONFIG_VECTOR	     0x10
#define COMMON_NUM_QUEUES	     0x12
#define COMMON_STATUS		     0x14
#define COMMON_GENERATION	     0x15
#define COMMON_QUEUE_SELECT	     0x16
#define COMMON_QUEUE_SIZE	     0x18
#define COMMON_QUEUE_VECTOR	     0x1a
#define COMMON_QUEUE_ENABLE	     0x1c
#define COMMON_QUEUE_NOTIFY_OFF	     0x1e
#define COMMON_QUEUE_DESC	     0x20
#define COMMON_QUEUE_DRIVER	     0x28
#define COMMON_QUEUE_DEVICE	     0x30
#define COMMON_QUEUE_NOTIFY_DATA     0x38
#define COMMON_QUEUE_RESET	     0x3a
#define COMMON_SIZE		     0x3c

/* Section 4.2.2: the same of virtio-mmio, and what only it has. */
#define MMIO_MAGIC	      0x000
#define MMIO_VERSION	      0x004
#define MMIO_DEVICE_ID	      0x008
#define MMIO_VENDOR_ID	      0x00c
#define MMIO_DEVICE_FEATURE   0x010
#define MMIO_QUEUE_MAX	      0x034
#define MMIO_QUEUE_NOTIFY     0x050
#define MMIO_INTERRUPT_STATUS 0x060
#define MMIO_INTERRUPT_ACK    0x064
#define MMIO_SHM_SELECT	      0x0ac
#define MMIO_SHM_LENGTH	      0x0b0
#define MMIO_CONFIG	      0x100
#define MMIO_SIZE	      0x1000 /* of the region, as the DSDT has it */

struct virtio;
struct vq;

/* What every transport has, wherever that is. Addresses are two halves, the low one first. */
enum virtio_register {
	DEVICE_FEATURE_SELECT,
	DEVICE_FEATURE,
	DRIVER_FEATURE_SELECT,
	DRIVER_FEATURE,
	STATUS,
	GENERATION,
	QUEUE_SELECT,
	QUEUE_MAX, /* read it before QUEUE_SIZE is written: by PCI they are one register */
	QUEUE_SIZE,
	QUEUE_ENABLE,
	QUEUE_DESC,
	QUEUE_DRIVER,
	QUEUE_DEVICE,
	QUEUE_RESET,
	VIRTIO_REGISTERS
};

struct virtio_transport {
	const char *name;
	struct {
		uint8_t offset, width; /* bytes; from v->common */
	} reg[VIRTIO_REGISTERS];
	void (*notify)(const struct virtio *v, unsigned queue);
	/* Why it interrupted since it was last asked, VIRTIO_ISR_…; acknowledges that. */
	uint8_t (*interrupts)(const struct virtio *v);
};

struct virtio {
	const struct virtio_transport *transport;
	struct pci_function pci; /* by PCI */
	unsigned gsi;		 /* by MMIO */
	/* Guest addresses of the structures; sizes as the capabilities say (by MMIO all the room
	 * there is). */
	uint64_t common, notify, isr, config;
	uint32_t common_size, notify_size, isr_size, config_size;
	uint32_t notify_multiplier;
	uint64_t features; /* negotiated */
};

/* The n-th device of this type: by PCI, and if there is none by MMIO. */
bool virtio_find(struct virtio *v, unsigned type, unsigned n);
/* By PCI: found, its capabilities read, decoding and DMA on. */
bool virtio_pci_find(struct virtio *v, unsigned type, unsigned n);
/* By MMIO, as the DSDT's slots (LNRO0005) have it. */
bool virtio_mmio_find(struct virtio *v, unsigned type, unsigned n);
bool virtio_is_mmio(const struct virtio *v);

/* Each is the plain register accesses and no more. */
uint32_t virtio_read(const struct virtio *v, enum virtio_register reg);
void virtio_write(const struct virtio *v, enum virtio_register reg, uint32_t value);
void virtio_write_address(const struct virtio *v, enum virtio_register reg, uint64_t value);
uint8_t virtio_status(const struct virtio *v);
void virtio_set_status(const struct virtio *v, uint8_t status);
uint64_t virtio_features(const struct virtio *v); /* the device's */
void virtio_set_features(const struct virtio *v, uint64_t features);
uint16_t virtio_queue_max(const struct virtio *v, unsigned queue); /* 0: no such queue */
/* Size and addresses, then enable. */
void virtio_queue_set(const struct virtio *v, const struct vq *q);
void virtio_queue_enable(const struct virtio *v, unsigned queue);

/* Reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK. Of what is offered it takes what is wanted;
 * VERSION_1 and the packed ring always. */
bool virtio_begin(struct virtio *v, uint64_t wanted);
/* DRIVER_OK. */
void virtio_ready(struct virtio *v);
/* Status 0, and waits until it reads so. */
bool virtio_reset(struct virtio *v);
/* By PCI: which MSI-X table entry serves a queue or the configuration; VIRTIO_NO_VECTOR: none. What
 * the device took. */
uint16_t virtio_queue_vector(const struct virtio *v, unsigned queue, uint16_t entry);
uint16_t virtio_config_vector(const struct virtio *v, uint16_t entry);

/* ---- rings ----------------------------------------------------------------------------------- */

#define VQ_NEXT	    1
#define VQ_WRITE    2
#define VQ_INDIRECT 4

#define VQ_NO_INTERRUPT 1 /* in avail->flags */

struct vq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct vq_avail {
	uint16_t flags, idx;
	uint16_t ring[];
};

struct vq_used_elem {
	uint32_t id, len;
};

struct vq_used {
	uint16_t flags, idx;
	struct vq_used_elem ring[];
};

/* Packed: section 2.8. */
#define VQ_AVAIL ((uint16_t)0x0080)
#define VQ_USED	 ((uint16_t)0x8000)

struct vq_packed_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t id, flags;
};

#define VQ_EVENT_ENABLE	 0
#define VQ_EVENT_DISABLE 1
#define VQ_EVENT_DESC	 2 /* at off_wrap */

struct vq_event {
	uint16_t off_wrap, flags;
};

/* A part of a request. */
struct vq_buffer {
	uint64_t addr;
	uint32_t len;
	bool write; /* by the device */
};

struct vq_ring {
	/* The three areas; zeroed. */
	void (*allocate)(struct vq *q);
	/* As new, for after a reset. */
	void (*clear)(struct vq *q);
	/* Makes a request available; its id. */
	uint16_t (*add)(struct vq *q, const struct vq_buffer *part, unsigned n);
	/* Takes one used request, if there is one. */
	bool (*take)(struct vq *q, uint32_t *id, uint32_t *len);
	/* By hand: see vq_lay() and vq_show(). */
	void (*lay)(struct vq *q, const struct vq_desc *chain, unsigned n);
	void (*show)(struct vq *q);
	void (*interrupts)(struct vq *q, bool wanted);
};

struct vq {
	const struct virtio *device;
	const struct vq_ring *ring;
	unsigned index;
	uint16_t size;
	uint64_t desc_area, driver_area, device_area; /* as the registers call them */
	/* Split ring. */
	volatile struct vq_desc *desc;
	volatile struct vq_avail *avail;
	volatile struct vq_used *used;
	/* Packed ring. */
	volatile struct vq_packed_desc *packed;
	volatile struct vq_event *driver, *device_event;
	uint16_t *slots; /* by id: descriptors of a request */
	bool wrap, seen_wrap;
	uint16_t laid_flags; /* of a chain that was laid and not shown */

	uint16_t next; /* descriptor for the next request; they are reused in turn */
	uint16_t seen; /* split: used->idx up to which was taken; packed: the next descriptor */
};

/* Allocates rings of this size (0: the device's largest, at most 256), tells the device, enables.
 * Packed if that was negotiated. */
bool vq_setup(struct vq *q, const struct virtio *v, unsigned index, uint16_t size);
/* The same memory as new, for after a device reset; told and enabled again. */
void vq_again(struct vq *q);
/* Only the memory: the device is not told. */
void vq_allocate(struct vq *q, const struct virtio *v, unsigned index, uint16_t size);
bool vq_is_packed(const struct vq *q);

uint16_t vq_add(struct vq *q, const struct vq_buffer *part, unsigned n);
bool vq_take(struct vq *q, uint32_t *id, uint32_t *len);
void vq_kick(struct vq *q);
/* Adds, kicks and waits at most ms for it; *len what the device wrote. */
bool vq_request(struct vq *q, const struct vq_buffer *part, unsigned n, uint32_t *len, unsigned ms);
/* Asks the device to interrupt, or not. */
void vq_interrupts(struct vq *q, bool wanted);

/*
 * By hand, in a ring that nothing has been put into: a chain as it stands, from descriptor 0 on. In
 * a packed ring, where descriptors follow one another, `next` is not looked at, the id is 0, and
 * the bits that make it available are put in. Then it is shown to the device.
 */
void vq_lay(struct vq *q, const struct vq_desc *chain, unsigned n);
void vq_show(struct vq *q);
/* An indirect table that was written as a split ring's, into the queue's format. */
void vq_table(const struct vq *q, struct vq_desc *table, unsigned n);

/* Split, by hand: one descriptor; one head into the available ring. */
void vq_describe(struct vq *q, uint16_t slot, uint64_t addr, uint32_t len, uint16_t flags,
		 uint16_t next);
void vq_offer(struct vq *q, uint16_t head);

extern const struct vq_ring vq_split, vq_packed;

/* ---- devices --------------------------------------------------------------------------------- */

#define BLK_IN	     0
#define BLK_OUT	     1
#define BLK_FLUSH    4
#define BLK_GET_ID   8
#define BLK_S_OK     0
#define BLK_S_IOERR  1
#define BLK_S_UNSUPP 2
#define BLK_TIMEOUT  0x100 /* ours */
#define BLK_ID_SIZE  20
#define BLK_SECTOR   512

#define BLK_F_RO    (1ull << 5)
#define BLK_F_FLUSH (1ull << 9)

struct blk_header {
	uint32_t type, reserved;
	uint64_t sector;
};

/* One request, waited for: BLK_S_… or BLK_TIMEOUT. */
unsigned blk_request(struct vq *q, uint32_t type, uint64_t sector, void *data, uint32_t len);
uint64_t blk_capacity(const struct virtio *v); /* sectors */
/* Random bytes into buf; how many came, 0 on a timeout. */
uint32_t rng_request(struct vq *q, void *buf, uint32_t len);

/* Everything for a working device in one: find, begin, one queue, DRIVER_OK. */
bool virtio_open(struct virtio *v, struct vq *q, unsigned type, unsigned n, uint64_t wanted);

#endif
