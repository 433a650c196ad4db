using System.Globalization;

namespace Backend.Toolkit.RateLimiting;

/// <summary>What a keyed limiter counts by: a text, or up to 128 bits. A value; made from a number, a <see cref="Guid"/> or an address it costs no allocation.</summary>
public readonly struct RateLimitKey : IEquatable<RateLimitKey>
{
    private readonly string? _text;
    private readonly UInt128 _number;

    /// <summary>Creates a key from a text. Null is a key of its own: all who have none share one limit.</summary>
    /// <param name="text">The text, compared by its characters.</param>
    public RateLimitKey(string? text) => _text = text;

    /// <summary>Creates a key from a number of up to 128 bits.</summary>
    /// <param name="number">The number.</param>
    public RateLimitKey(UInt128 number) => (_text, _number) = (Numeric, number);

    /// <summary>Marks a number, by reference: no text from outside is this object.</summary>
    private static string Numeric { get; } = new('#', 1);

    /// <summary>Whether it was made from a number.</summary>
    public bool IsNumber => ReferenceEquals(_text, Numeric);

    /// <summary>A key from a text.</summary>
    /// <param name="text">The text.</param>
    public static implicit operator RateLimitKey(string? text) => new(text);

    /// <summary>A key from a number.</summary>
    /// <param name="number">The number.</param>
    public static implicit operator RateLimitKey(long number) => new((UInt128)(ulong)number);

    /// <summary>Whether two keys are the same.</summary>
    /// <param name="left">One key.</param>
    /// <param name="right">Another.</param>
    public static bool operator ==(RateLimitKey left, RateLimitKey right) => left.Equals(right);

    /// <summary>Whether two keys differ.</summary>
    /// <param name="left">One key.</param>
    /// <param name="right">Another.</param>
    public static bool operator !=(RateLimitKey left, RateLimitKey right) => !left.Equals(right);

    /// <inheritdoc/>
    public bool Equals(RateLimitKey other) => IsNumber == other.IsNumber && _number == other._number && string.Equals(_text, other._text, StringComparison.Ordinal);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is RateLimitKey other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(_text, _number);

    /// <summary>The text, or the number in hexadecimal digits.</summary>
    /// <returns>The text of the key; empty for null.</returns>
    public override string ToString() => IsNumber ? _number.ToString("x", CultureInfo.InvariantCulture) : _text ?? "";

    /// <summary>A text and a number never hash alike by construction: the kind is part of what is hashed.</summary>
    internal ulong Hash(KeyHash hash) => IsNumber
        ? hash.Of(1, (ulong)_number, (ulong)(_number >> 64))
        : _text is null ? hash.Of(2, 0, 0) : hash.Of(_text);
}
