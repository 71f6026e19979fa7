/*
 * What a device is, and the registry of all there are. One const row per class × model × hw says
 * how the flag is spelt, which keys it takes and how to make one; parser, --help, --list-devices,
 * man page, completion, README table and option tests all read these rows, so none of them can lie.
 *
 * A device reaches the machine only through the fields of `struct device_host`.
 */
#ifndef DEVICES_DEVICE_H
#define DEVICES_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/account.h"
#include "vmm/bus.h"
#include "vmm/error.h"
#include "vmm/event.h"
#include "vmm/irq.h"
#include "vmm/mapping.h"
#include "vmm/memory.h"

struct pci_root;
struct vhost_user_peer;
struct vfio_iommu;
struct device;

enum device_class {
	CLASS_NET,
	CLASS_BLK,
	CLASS_CONSOLE,
	CLASS_RNG,
	CLASS_VSOCK,
	CLASS_BALLOON,
	CLASS_FS,
	CLASS_DEV,
	CLASS_PLATFORM, /* what every machine has; no flag */
	CLASS_COUNT
};

enum device_model { MODEL_EMULATED, MODEL_VIRTIO, MODEL_VHOST, MODEL_VFIO, MODEL_COUNT };

/* Names as on the command line: "net", "virtio" … */
const char *device_class_name(enum device_class class);
const char *device_model_name(enum device_model model);
const char *device_class_summary(enum device_class class); /* one line for help */

enum device_key_type { KEY_BOOL, KEY_UINT, KEY_SIZE, KEY_STRING, KEY_ENUM };

/* One KEY=VALUE that a row accepts. The last of an array has name NULL. */
struct device_key {
	const char *name;
	enum device_key_type type;
	const char *fallback; /* the default as text; NULL: unset */
	const char *choices;  /* KEY_ENUM: "a|b|c"; the value is the index */
	uint64_t min, max;    /* KEY_UINT, KEY_SIZE */
	const char *help;
};

#define DEVICE_MAX_KEYS 24

struct device_value {
	bool set;	 /* given by the user or by a default */
	bool given;	 /* given by the user */
	uint64_t number; /* KEY_BOOL 0/1, KEY_UINT, KEY_SIZE in bytes, KEY_ENUM index */
	char *text;	 /* KEY_STRING: owned; else NULL */
};

struct device_row;

/* One flag, parsed: --CLASS=MODEL[:TARGET][,KEY=VALUE]… */
struct device_config {
	const struct device_row *row;
	unsigned
		index; /* the how-manieth device of its class, from 0: keeps slot, MAC and serial */
	char *target;  /* owned; NULL if none */
	char *flag;    /* owned; the flag as the user wrote it, for messages */
	struct device_value value[DEVICE_MAX_KEYS]; /* parallel to row->keys */
};

/* The value of a key the row declares; asking for another one is a bug and aborts (unit-tested). */
bool device_config_bool(const struct device_config *config, const char *key);
uint64_t device_config_uint(const struct device_config *config, const char *key);
const char *device_config_string(const struct device_config *config, const char *key); /* or NULL */
bool device_config_given(const struct device_config *config, const char *key);

/* Why the guest, through a device, wants the machine to end or begin again. */
enum machine_request { REQUEST_NONE, REQUEST_POWEROFF, REQUEST_RESET, REQUEST_PANIC };

/*
 * Places for devices with fixed addresses that ACPI names (virtio-mmio): slot n has its registers
 * at base + n * MMIO_SLOT_SIZE and its line at gsi[n], which others may share. Main thread.
 */
#define MMIO_SLOTS     16
#define MMIO_SLOT_SIZE 0x1000u

struct mmio_slots {
	uint64_t base;
	unsigned count; /* how many the machine has */
	uint32_t used;	/* bit n: slot n is taken */
	uint8_t gsi[MMIO_SLOTS];
};

/* Everything a device may reach. Lives as long as the machine. */
struct device_host {
	struct guest_memory *memory;
	struct bus *pio;
	struct bus *mmio;
	struct irq_controller *irq;
	struct event_loop *loop; /* the main thread's */
	struct pci_root *pci;
	struct accounts *accounts; /* NULL: nothing is counted (tests) */
	struct mmio_slots mmio_slots;
	/* In a back-end process: the one device is for another VMM's guest, over vhost-user. */
	struct vhost_user_peer *peer;
	struct mappings
		*mappings; /* memory of the host that the guest reaches; NULL: none can be */
	struct vfio_iommu
		*iommu; /* what the passed-through devices share; NULL while there are none */
	/* Asks the machine to end or restart; returns at once, any thread. */
	void (*request)(struct device_host *host, enum machine_request request);
	/*
	 * Tells the hypervisor that a VFIO group (or device that has a file of its own) belongs to
	 * the machine, or no longer does. Main thread; NULL: nobody to tell.
	 */
	int (*vfio_file)(struct device_host *host, int fd, bool add);
};

/* What a device can do, as facts that can be listed; absent ones are absent, not surprises. */
#define DEVICE_CAN_SAVE	 (1u << 0) /* state can be saved and restored */
#define DEVICE_CAN_PAUSE (1u << 1)

/*
 * Life cycle: create → plug → start ⇄ pause → reset → destroy. All called from the main thread, and
 * never while a vCPU runs except start right before and pause right after. reset drains what is in
 * flight before it returns: nothing touches guest memory afterwards until the guest starts it
 * again.
 */
struct device_ops {
	int (*start)(struct device *dev, struct error *e); /* may be NULL */
	void (*pause)(struct device *dev);		   /* may be NULL */
	void (*reset)(struct device *dev);
	void (*destroy)(struct device *dev); /* frees dev; undoes create */
};

/* Embedded first in every device. */
struct device {
	const struct device_ops *ops;
	const struct device_row *row;
	struct device_host *host;
	struct account *account; /* what its paths cost; NULL without host->accounts */
	char name[16];		 /* "blk0", "rng0": for messages, thread names and accounting */
	struct device *next;
};

struct device_row {
	enum device_class class;
	enum device_model model;
	const char *hw;	     /* "virtio-blk", "16550" */
	bool preferred;	     /* the hw that MODEL alone means */
	const char *summary; /* one line */
	const char *target;  /* how help shows the target: "IMAGE"; NULL: takes none */
	bool target_required;
	const struct device_key *keys; /* ends with name NULL; never NULL */
	unsigned capabilities;	       /* DEVICE_CAN_… */
	/*
	 * Makes and plugs the device. On failure nothing is left behind, *out is untouched and e
	 * says why (without the flag; the caller puts that in front).
	 */
	int (*create)(struct device_host *host, const struct device_config *config,
		      struct device **out, struct error *e);
};

/* NULL-terminated; all rows of this build, in the order help shows them. */
extern const struct device_row *const device_registry[];

/* The row for a flag; hw NULL means the preferred one. NULL if there is none. */
const struct device_row *device_find(enum device_class class, enum device_model model,
				     const char *hw);

/* Fills the common part; name is "<class><index>". */
void device_init(struct device *dev, const struct device_ops *ops, struct device_host *host,
		 const struct device_config *config);

#endif
