using System.Net;
using CsCheck;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

public sealed class AddressTests
{
    [Theory]
    [InlineData("0.0.0.0")]
    [InlineData("0.1.2.3")]
    [InlineData("10.0.0.1")]
    [InlineData("100.64.0.1")]
    [InlineData("100.127.255.255")]
    [InlineData("127.0.0.1")]
    [InlineData("127.255.255.254")]
    [InlineData("169.254.169.254")]
    [InlineData("172.16.0.1")]
    [InlineData("172.31.255.255")]
    [InlineData("192.0.0.192")]
    [InlineData("192.0.2.1")]
    [InlineData("192.88.99.1")]
    [InlineData("192.168.1.1")]
    [InlineData("198.18.0.1")]
    [InlineData("198.51.100.7")]
    [InlineData("203.0.113.9")]
    [InlineData("224.0.0.1")]
    [InlineData("239.255.255.255")]
    [InlineData("240.0.0.1")]
    [InlineData("255.255.255.255")]
    [InlineData("168.63.129.16")]
    [InlineData("::")]
    [InlineData("::1")]
    [InlineData("::ffff:127.0.0.1")]
    [InlineData("::ffff:10.0.0.1")]
    [InlineData("::ffff:169.254.169.254")]
    [InlineData("::127.0.0.1")]
    [InlineData("::ffff:0:127.0.0.1")]
    [InlineData("::8.8.8.8")]
    [InlineData("64:ff9b::127.0.0.1")]
    [InlineData("64:ff9b::169.254.169.254")]
    [InlineData("64:ff9b:1::1")]
    [InlineData("2002:7f00:1::")]
    [InlineData("2002:a9fe:a9fe::1")]
    [InlineData("2001:0:7f00:1::")]
    [InlineData("2001:0:808:808:0:0:80ff:fffe")]
    [InlineData("2600:1f18::5efe:127.0.0.1")]
    [InlineData("2600:1f18::200:5efe:10.0.0.1")]
    [InlineData("fc00::1")]
    [InlineData("fd00:ec2::254")]
    [InlineData("fe80::1")]
    [InlineData("fec0::1")]
    [InlineData("ff02::1")]
    [InlineData("100::1")]
    [InlineData("2001:2::1")]
    [InlineData("2001:10::1")]
    [InlineData("2001:db8::1")]
    [InlineData("3fff::1")]
    [InlineData("5f00::1")]
    [InlineData("4000::1")]
    [InlineData("2606:4700:4700::1111%1")]
    public void An_address_that_is_not_public_is_refused(string address)
    {
        bool allowed = AddressRules.IsAllowed(IPAddress.Parse(address), []);

        allowed.Should().BeFalse();
    }

    [Theory]
    [InlineData("8.8.8.8")]
    [InlineData("1.1.1.1")]
    [InlineData("100.63.255.255")]
    [InlineData("100.128.0.1")]
    [InlineData("172.15.255.255")]
    [InlineData("172.32.0.1")]
    [InlineData("192.0.1.1")]
    [InlineData("198.20.0.1")]
    [InlineData("223.255.255.255")]
    [InlineData("::ffff:8.8.8.8")]
    [InlineData("64:ff9b::8.8.8.8")]
    [InlineData("2001:4860:4860::8888")]
    [InlineData("2606:4700:4700::1111")]
    [InlineData("2002:808:808::1")]
    public void A_public_address_is_allowed(string address)
    {
        bool allowed = AddressRules.IsAllowed(IPAddress.Parse(address), []);

        allowed.Should().BeTrue();
    }

    [Theory]
    [InlineData("10.1.2.3", true)]
    [InlineData("::ffff:10.1.2.3", true)]
    [InlineData("64:ff9b::10.1.2.3", true)]
    [InlineData("10.2.0.1", false)]
    [InlineData("127.0.0.1", false)]
    public void An_allowed_network_opens_itself_and_nothing_more(string address, bool expected)
    {
        bool allowed = AddressRules.IsAllowed(IPAddress.Parse(address), [IPNetwork.Parse("10.1.0.0/16")]);

        allowed.Should().Be(expected);
    }

    [Fact]
    public void An_IPv6_form_is_never_better_than_the_IPv4_address_in_it()
    {
        Gen.UInt.Select(Gen.Int[0, 4]).Sample((number, form) =>
        {
            byte[] inner = BitConverter.GetBytes(number);
            byte[] bytes = form switch
            {
                0 => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, .. inner],
                1 => [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, .. inner],
                2 => [0x20, 0x02, .. inner, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                3 => [0x26, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x5e, 0xfe, .. inner],
                _ => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, .. inner],
            };

            return !AddressRules.IsAllowed(new IPAddress(bytes), []) || AddressRules.IsAllowed(new IPAddress(inner), []);
        }, iter: 100_000);
    }
}
