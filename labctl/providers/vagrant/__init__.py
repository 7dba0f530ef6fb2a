"""Virtual machines that Vagrant makes and libvirt watches."""
