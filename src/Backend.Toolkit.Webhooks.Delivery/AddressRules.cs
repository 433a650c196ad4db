using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>
/// Whether an address is one of the public internet (IANA special-purpose registries, RFC 6890 and later). An IPv6 address that carries an IPv4 address (mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP) is
/// as bad as that one.
/// </summary>
internal static class AddressRules
{
    private static IPNetwork[] Refused4 { get; } =
    [
        IPNetwork.Parse("0.0.0.0/8"), IPNetwork.Parse("10.0.0.0/8"), IPNetwork.Parse("100.64.0.0/10"), IPNetwork.Parse("127.0.0.0/8"), IPNetwork.Parse("169.254.0.0/16"),
        IPNetwork.Parse("172.16.0.0/12"), IPNetwork.Parse("192.0.0.0/24"), IPNetwork.Parse("192.0.2.0/24"), IPNetwork.Parse("192.31.196.0/24"), IPNetwork.Parse("192.52.193.0/24"),
        IPNetwork.Parse("192.88.99.0/24"), IPNetwork.Parse("192.168.0.0/16"), IPNetwork.Parse("192.175.48.0/24"), IPNetwork.Parse("198.18.0.0/15"), IPNetwork.Parse("198.51.100.0/24"),
        IPNetwork.Parse("203.0.113.0/24"), IPNetwork.Parse("224.0.0.0/4"), IPNetwork.Parse("240.0.0.0/4"),

        // A public address that answers inside one cloud alone.
        IPNetwork.Parse("168.63.129.16/32"),
    ];

    private static IPNetwork[] Refused6 { get; } =
    [
        IPNetwork.Parse("2001::/23"), IPNetwork.Parse("2001:db8::/32"), IPNetwork.Parse("2620:4f:8000::/48"), IPNetwork.Parse("3fff::/20"),
    ];

    private static IPNetwork Global6 { get; } = IPNetwork.Parse("2000::/3");

    private static IPNetwork Nat64 { get; } = IPNetwork.Parse("64:ff9b::/96");

    private static IPNetwork Translated { get; } = IPNetwork.Parse("::ffff:0:0:0/96");

    private static IPNetwork Compatible { get; } = IPNetwork.Parse("::/96");

    private static IPNetwork SixToFour { get; } = IPNetwork.Parse("2002::/16");

    private static IPNetwork Teredo { get; } = IPNetwork.Parse("2001::/32");

    /// <param name="address">The address.</param>
    /// <param name="allowed">Networks that are allowed, whatever they are; they are compared with the address and with the IPv4 address that it carries.</param>
    public static bool IsAllowed(IPAddress address, IReadOnlyList<IPNetwork> allowed)
    {
        IPAddress[] carried = address.AddressFamily == AddressFamily.InterNetworkV6 ? [.. Carried(address)] : [];
        IPAddress plain = address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
        if (allowed.Any(network => network.Contains(plain)))
        {
            return true;
        }

        return plain.AddressFamily switch
        {
            AddressFamily.InterNetwork => !Refused4.Any(network => network.Contains(plain)),
            AddressFamily.InterNetworkV6 when carried.Length > 0 =>
                carried.All(inner => IsAllowed(inner, allowed)) && (Nat64.Contains(plain) || IsGlobal(plain)),
            AddressFamily.InterNetworkV6 => IsGlobal(plain),
            _ => false,
        };
    }

    private static bool IsGlobal(IPAddress address) => address.ScopeId == 0 && Global6.Contains(address) && !Refused6.Any(network => network.Contains(address));

    private static IEnumerable<IPAddress> Carried(IPAddress address)
    {
        byte[] bytes = address.GetAddressBytes();
        if (Nat64.Contains(address) || Translated.Contains(address) || Compatible.Contains(address))
        {
            yield return new IPAddress(bytes.AsSpan(12));
        }
        else if (SixToFour.Contains(address))
        {
            yield return new IPAddress(bytes.AsSpan(2, 4));
        }
        else if (Teredo.Contains(address))
        {
            yield return new IPAddress(bytes.AsSpan(4, 4));
            yield return new IPAddress([.. bytes.AsSpan(12).ToArray().Select(part => (byte)~part)]);
        }

        if ((BinaryPrimitives.ReadUInt32BigEndian(bytes.AsSpan(8)) & 0xfdff_ffff) == 0x0000_5efe)
        {
            yield return new IPAddress(bytes.AsSpan(12));
        }
    }
}
