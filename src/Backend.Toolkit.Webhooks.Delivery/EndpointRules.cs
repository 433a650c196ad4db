using System.Globalization;
using System.Net;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>
/// What an endpoint's URL may be, and whereto a connection may go. The URL is checked when it is given and before each attempt; the addresses when the connection is made, and the connection goes to
/// an address that was checked. One record of a host that fails refuses the host.
/// </summary>
internal sealed class EndpointRules
{
    private const int MaxUrlLength = 2048;

    private readonly bool _http;
    private readonly int[] _ports;
    private readonly string[] _hosts;
    private readonly IPNetwork[] _networks;

    public EndpointRules(WebhookDeliveryOptions options)
    {
        _http = options.AllowHttp;
        _ports = [.. options.AllowedPorts];
        _hosts = [.. options.AllowedHosts];
        _networks = [.. options.AllowedNetworks.Select(network => IPNetwork.Parse(network))];
    }

    /// <returns>Why the URL is refused; null: it is not.</returns>
    public string? Refusal(string? url, out Uri? uri)
    {
        uri = null;
        if (string.IsNullOrEmpty(url) || url.Length > MaxUrlLength)
        {
            return "The URL must have 1 to 2 048 characters.";
        }

        // Before any parser sees it: full-width digits become an address, and line breaks and backslashes mean different things to different parsers.
        if (url.Any(character => character is <= ' ' or > '~' or '\\'))
        {
            return "The URL must be printable ASCII without spaces and backslashes; write an international host name in Punycode.";
        }

        if (!Uri.TryCreate(url, UriKind.Absolute, out Uri? parsed))
        {
            return "The URL must be absolute, such as https://example.com/hooks.";
        }

        if (parsed.Scheme != Uri.UriSchemeHttps && !(_http && parsed.Scheme == Uri.UriSchemeHttp))
        {
            return _http ? "The URL must begin with https:// or http://." : "The URL must begin with https://.";
        }

        if (parsed.UserInfo.Length > 0 || url.Contains('@', StringComparison.Ordinal))
        {
            return "The URL must not hold a user, a password or an @.";
        }

        if (parsed.Fragment.Length > 0 || url.Contains('#', StringComparison.Ordinal))
        {
            return "The URL must not have a fragment.";
        }

        if (_ports.Length > 0 ? !_ports.Contains(parsed.Port) : parsed.Port is not (80 or 443 or >= 1024))
        {
            return $"The port {parsed.Port.ToString(CultureInfo.InvariantCulture)} is not allowed.";
        }

        if (parsed.HostNameType is UriHostNameType.IPv4 or UriHostNameType.IPv6)
        {
            // A zone names an interface of this machine.
            if (parsed.DnsSafeHost.Contains('%', StringComparison.Ordinal) || !IPAddress.TryParse(parsed.DnsSafeHost, out IPAddress? address) || !AddressRules.IsAllowed(address, _networks))
            {
                return "The address is not one of the public internet.";
            }
        }
        else if (parsed.HostNameType != UriHostNameType.Dns || IsLocal(parsed.IdnHost) || !parsed.Host.All(character => char.IsAsciiLetterOrDigit(character) || character is '-' or '.' or '_'))
        {
            return "The host must be a name of the public internet, such as example.com.";
        }

        if (_hosts.Length > 0 && !_hosts.Any(host => Matches(host, parsed.IdnHost)))
        {
            return "The host is not one that is allowed.";
        }

        uri = parsed;
        return null;
    }

    /// <summary>The addresses that a connection may go to.</summary>
    /// <exception cref="WebhookEndpointRefusedException">One of them is not allowed, or there is none.</exception>
    public IReadOnlyList<IPAddress> Checked(IReadOnlyList<IPAddress> addresses)
    {
        // The address is not told: who gave the host would learn what the names inside mean.
        return addresses.Count == 0 ? throw new WebhookEndpointRefusedException("The host has no address.")
            : addresses.All(address => AddressRules.IsAllowed(address, _networks)) ? addresses
            : throw new WebhookEndpointRefusedException("The host has an address that is not one of the public internet.");
    }

    private bool IsLocal(string host)
    {
        string name = host.TrimEnd('.');
        string last = name[(name.LastIndexOf('.') + 1)..].ToLowerInvariant();

        // An allowed network says that the application wants to reach what is inside; then names decide nothing, addresses do.
        return name.Length == 0 || (_networks.Length == 0 && (!name.Contains('.', StringComparison.Ordinal) || last is "localhost" or "local" or "internal" or "localdomain" or "lan" or "home" or "corp" or "intranet" or "arpa" or "test" or "invalid" or "onion"))
            || last.All(char.IsAsciiDigit);
    }

    private static bool Matches(string allowed, string host) => allowed.StartsWith("*.", StringComparison.Ordinal)
        ? host.EndsWith(allowed[1..], StringComparison.OrdinalIgnoreCase)
        : host.Equals(allowed, StringComparison.OrdinalIgnoreCase);
}
