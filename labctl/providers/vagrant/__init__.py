"""Virtual machines, made by Vagrant and watched through libvirt."""
