/*
 * The smallest guest there can be, for measuring the VMM and not the guest: entered by PVH in 32-bit
 * protected mode, its first instructions say 'X' on COM1. Built twice: with BENCH_EXIT it then powers
 * the machine off (SLP_TYP 5 and SLP_EN in mvm's ACPI sleep control register), else it halts for good.
 */
	.section .note.PVH, "a", @note
	.long 4, 4, 18 /* name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.section .text, "ax"
	.code32
	.globl start
start:
	movw $0x3f8, %dx
	movb $'X', %al
	outb %al, %dx
#ifdef BENCH_EXIT
	movw $0x600, %dx
	movb $0x34, %al
	outb %al, %dx
#endif
1:	cli
	hlt
	jmp 1b
