using System.Globalization;

namespace Backend.Toolkit.Http;

/// <summary>Whom a request is sent to. Two requests share a circuit when all three are equal.</summary>
/// <param name="Scheme">In lower case, as <see cref="Uri.Scheme"/> gives it.</param>
/// <param name="Host">In lower case, as <see cref="Uri.Host"/> gives it.</param>
/// <param name="Port">The port, the default one of the scheme included.</param>
public readonly record struct HttpAuthority(string Scheme, string Host, int Port)
{
    /// <summary>For example <c>https://payments:443</c>.</summary>
    /// <returns>Scheme, host and port.</returns>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Scheme}://{Host}:{Port}");

    /// <summary>By the host and the port; of two schemes at one port, one is an accident.</summary>
    /// <returns>The hash code.</returns>
    public override int GetHashCode() => HashCode.Combine(Host, Port);

    internal static HttpAuthority Of(Uri uri) => new(uri.Scheme, uri.Host, uri.Port);
}
