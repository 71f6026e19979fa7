/*
 * KVM's VFIO device: KVM hears which VFIO groups or devices belong to the VM, so that it knows
 * whether their DMA is coherent and can lend the VM to drivers that need it. See
 * Documentation/virt/kvm/devices/vfio.rst.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include <linux/kvm.h>

#include "vmm/kvm.h"

/* Newer headers call these FILE: since Linux 6.6 the fd may be that of a device. */
#define GROUP_FILE     KVM_DEV_VFIO_GROUP
#define GROUP_FILE_ADD KVM_DEV_VFIO_GROUP_ADD
#define GROUP_FILE_DEL KVM_DEV_VFIO_GROUP_DEL

static int create(struct kvm *kvm)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_VFIO };
	int err = kvm_vm_ioctl(kvm, KVM_CREATE_DEVICE, &device);

	if (err < 0)
		return err;
	kvm->vfio = (int)device.fd;
	return 0;
}

int kvm_vfio_file(struct kvm *kvm, int fd, bool add)
{
	int32_t file = fd;
	struct kvm_device_attr attr = {
		.group = GROUP_FILE,
		.attr = add ? GROUP_FILE_ADD : GROUP_FILE_DEL,
		.addr = (uintptr_t)&file,
	};
	int err = kvm->vfio < 0 ? create(kvm) : 0;

	if (err < 0)
		return err;
	return ioctl(kvm->vfio, KVM_SET_DEVICE_ATTR, &attr) < 0 ? -errno : 0;
}
