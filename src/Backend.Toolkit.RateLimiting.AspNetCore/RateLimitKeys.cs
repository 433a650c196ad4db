using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Security.Claims;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>Key selectors for requests. Requests without what they look for share one key: that of <c>null</c>.</summary>
public static class RateLimitKeys
{
    /// <summary>The caller's <see cref="ClaimTypes.NameIdentifier"/>, else the name of the identity. Put <c>UseRateLimits</c> after <c>UseAuthentication</c>.</summary>
    /// <param name="context">The request.</param>
    /// <returns>The key; that of null for who is not authenticated.</returns>
    public static RateLimitKey User(HttpContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        return context.User.Identity is { IsAuthenticated: true } identity ? context.User.FindFirstValue(ClaimTypes.NameIdentifier) ?? identity.Name : null;
    }

    /// <summary>
    /// The address that the connection comes from: IPv4 whole, IPv6 by its /64 (what one subscriber has), an IPv4 address mapped into IPv6 as IPv4. No allocation. Behind a proxy use
    /// the forwarded-headers middleware of ASP.NET Core first, with the proxies that it may trust.
    /// </summary>
    /// <param name="context">The request.</param>
    /// <returns>The key; that of null where there is no address, as on a Unix socket.</returns>
    public static RateLimitKey IpPrefix(HttpContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        if (context.Connection.RemoteIpAddress is not { } address)
        {
            return null;
        }

        Span<byte> bytes = stackalloc byte[16];
        address.TryWriteBytes(bytes, out _);
        return address.AddressFamily == AddressFamily.InterNetwork ? new RateLimitKey(BinaryPrimitives.ReadUInt32BigEndian(bytes))
            : address.IsIPv4MappedToIPv6 ? new RateLimitKey(BinaryPrimitives.ReadUInt32BigEndian(bytes[12..]))
            : new RateLimitKey(new UInt128(BinaryPrimitives.ReadUInt64BigEndian(bytes), 1UL << 32));
    }

    /// <summary>The value of a header, such as an API key.</summary>
    /// <param name="header">The name of the header.</param>
    /// <returns>A key selector. Whoever sends no such header has the key of null; more than one line counts as the lines joined by commas.</returns>
    public static Func<HttpContext, RateLimitKey> Header(string header)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(header);
        return context => context.Request.Headers[header].ToString() is { Length: > 0 } value ? value : null;
    }
}
