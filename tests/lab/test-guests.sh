#!/bin/sh
# The tiny guests once more, on the lab's KVM: hardware virtualization as a real host has it. Only here do
# interrupts in service, end of interrupt and priorities show; the KVM of a machine without vmx or svm may
# leave them out.
# lab: timeout=600

echo "TAP version 13"
# What an interrupt costs says nothing where one CPU serves two that spin; what is mvm's alone (rings and tables that
# it reads, what hostile drivers do, registers of emulated hardware, terminals and sockets) is the same on whatever KVM,
# and is tried without the lab.
without='^(irqcost|blkcost|hostile|rings|misuse|registers|indirect|counts|acpi)\b|--(net|blk|console)=emulated'
exec "$TOP/tests/guest/run" --mvm "$MVM_BUILD/mvm" --jobs 1 --slow 6 --without="$without" guests
