/*
 * The kernel's newer ways to a VFIO device, for headers older than Linux 6.6: a character device
 * per VFIO device and iommufd. Numbers and structures as Documentation/userspace-api/iommufd.rst
 * and vfio.rst describe them; they never change. In: nothing. Out: what the ioctls take.
 */
#ifndef DEVICES_VFIO_UAPI_H
#define DEVICES_VFIO_UAPI_H

#include <linux/types.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

/* ---- the device's own file, /dev/vfio/devices/vfioN ---- */

struct cdev_bind {
	__u32 argsz;
	__u32 flags;
	__s32 iommufd;
	__u32 out_devid;
};
#define CDEV_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)

struct cdev_attach {
	__u32 argsz;
	__u32 flags;
	__u32 pt_id; /* in: the address space; out: the page table used */
};
#define CDEV_ATTACH_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 19)

/* ---- /dev/iommu ---- */

#define IOMMUFD_IOCTL(n) _IO(';', 0x80 + (n))

struct iommufd_ioas_alloc {
	__u32 size;
	__u32 flags;
	__u32 out_ioas_id;
};
#define IOMMUFD_IOAS_ALLOC IOMMUFD_IOCTL(1)

struct iommufd_range {
	__aligned_u64 start;
	__aligned_u64 last;
};

struct iommufd_iova_ranges {
	__u32 size;
	__u32 ioas_id;
	__u32 num_iovas; /* in: room; out: how many there are (-EMSGSIZE: more than room) */
	__u32 reserved;
	__aligned_u64 allowed_iovas;
	__aligned_u64 out_iova_alignment;
};
#define IOMMUFD_IOAS_IOVA_RANGES IOMMUFD_IOCTL(4)

struct iommufd_ioas_map {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__u32 reserved;
	__aligned_u64 user_va;
	__aligned_u64 length;
	__aligned_u64 iova;
};
#define IOMMUFD_MAP_FIXED_IOVA 1u
#define IOMMUFD_MAP_WRITEABLE  2u
#define IOMMUFD_MAP_READABLE   4u
#define IOMMUFD_IOAS_MAP       IOMMUFD_IOCTL(5)

struct iommufd_ioas_unmap {
	__u32 size;
	__u32 ioas_id;
	__aligned_u64 iova;
	__aligned_u64 length;
};
#define IOMMUFD_IOAS_UNMAP IOMMUFD_IOCTL(6)

#endif
