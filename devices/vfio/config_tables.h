/*
 * Which bits of a passed-through function's configuration space the guest gets, and how: see
 * config.h. In: nothing. Out: the tables that config.c walks.
 */
#ifndef DEVICES_VFIO_CONFIG_TABLES_H
#define DEVICES_VFIO_CONFIG_TABLES_H

#include <stdbool.h>
#include <stdint.h>

/*
 * One register. A bit that is in none of the masks is what the hardware said when it was opened,
 * and read-only.
 */
struct vfio_field {
	const char *name;
	uint16_t offset; /* in the capability, or of the header */
	uint8_t width;	 /* 2 or 4 */
	uint32_t live;	 /* read from the hardware each time */
	uint32_t pass;	 /* the guest's writes go to the hardware */
	uint32_t once;	 /* of those, cleared by writing 1 */
	uint32_t kept;	 /* the guest's writes are kept by us and go nowhere */
	uint32_t fixed;	 /* reads as in value, whatever the hardware has */
	uint32_t value;
};

/* How long a capability is. */
enum vfio_length {
	VFIO_LENGTH_FIXED,	/* `length` bytes */
	VFIO_LENGTH_BYTE,	/* in its byte 2 */
	VFIO_LENGTH_EXPRESS,	/* by its version */
	VFIO_LENGTH_VENDOR_EXT, /* in bits 31:20 of its second word */
};

struct vfio_capability {
	uint16_t id;
	const char *name;
	enum vfio_length length_kind;
	uint16_t length;
	/* Every bit is live and passed: what it means only the device and its driver know. */
	bool raw;
	bool read_only; /* with raw: live, not passed */
	const struct vfio_field *fields;
	unsigned nfields;
};

extern const struct vfio_field vfio_header_fields[];
extern const unsigned vfio_header_nfields;

/* NULL: hidden. MSI and MSI-X are not in here: devices/pci makes them. */
const struct vfio_capability *vfio_capability_find(uint8_t id);
const struct vfio_capability *vfio_ext_capability_find(uint16_t id);

#endif
