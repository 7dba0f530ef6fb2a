# Evaluates the Vagrantfile with recorders in Vagrant's place and prints what each machine would be on one provider, as JSON:
#   ruby vagrantfile.rb VAGRANTFILE PROVIDER
# As Vagrant does: a provider's block runs after the machine's own words, and its overrides win; networks of one id are merged.
require "json"

class Recorder
  attr_reader :values, :calls, :networks, :blocks

  def initialize
    @values, @calls, @networks, @blocks, @children = {}, [], {}, [], {}
  end

  def method_missing(name, *arguments, **options, &block)
    name = name.to_s
    if name.end_with?("=")
      @values[name.chomp("=")] = arguments.first
    elsif name == "network"
      (@networks[options[:id] || @networks.size.to_s] ||= {}).merge!(options, type: arguments.first)
    elsif block
      @blocks << [name, arguments.first, block]
    elsif arguments.empty? && options.empty?
      @children[name] ||= name == "vmx" ? {} : Recorder.new
    else
      @calls << [name, *arguments, options]
    end
  end

  def respond_to_missing?(*)
    true
  end

  def all
    @children.reduce(@values.dup) { |whole, (name, child)| whole.merge(name => child.is_a?(Hash) ? child : child.all) }
  end
end

module Vagrant
  def self.configure(_version)
    @config = Recorder.new
    yield @config
  end

  def self.config
    @config
  end
end

load ARGV[0]
provider = ARGV[1]
config = Vagrant.config
machines = config.vm.blocks.select { |kind, _, _| kind == "define" }.map do |_, name, define|
  machine, hypervisor = Recorder.new, Recorder.new
  define.call(machine)
  machine.vm.blocks.select { |kind, which, _| kind == "provider" && which.to_s == provider }.each do |_, _, block|
    block.arity == 1 ? block.call(hypervisor) : block.call(hypervisor, machine)
  end
  [name, { vm: machine.vm.values, networks: machine.vm.networks.values, provisions: machine.vm.calls.select { |c| c[0] == "provision" },
           provider: hypervisor.all, calls: hypervisor.calls }]
end
puts JSON.generate(machines: machines.to_h, ssh: config.ssh.values, vm: config.vm.values, folders: config.vm.calls)
