using System.Buffers;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Pagination;

/// <summary>
/// Seals cursors and opens them. A cursor is a position just before or just after a row, named by the row's keys, and the direction in which it goes on; the row itself need not exist any
/// more. It is bound to the keyset and to the scope, and is refused when a single bit is different. The same position gives the same cursor (with <see cref="CursorPaginatorOptions.Expiry"/>: for a
/// while). For all threads; sealing and opening cost one HMAC-SHA256 and allocate nothing but the text, when keys have a fixed size.
/// </summary>
public sealed class CursorPaginator
{
    private const int OnStack = 512;

    private static readonly DateTimeOffset Epoch = new(2000, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private readonly TimeProvider _timeProvider;
    private readonly ILogger? _logger;
    private CursorSeal? _random;
    private volatile CursorSettings _settings;

    /// <summary>A paginator.</summary>
    /// <param name="options">How cursors are sealed, and how large pages are; read now, not kept.</param>
    /// <param name="timeProvider">The clock by which cursors expire; null: the system's.</param>
    /// <param name="logger">Told of a random key.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options are not valid; one sentence for each problem.</exception>
    public CursorPaginator(CursorPaginatorOptions options, TimeProvider? timeProvider = null, ILogger<CursorPaginator>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        _timeProvider = timeProvider ?? TimeProvider.System;
        _logger = logger;
        _settings = Settings(options);
    }

    /// <summary>The name in the options.</summary>
    public string Name => _settings.Name;

    /// <summary>Takes over other options; a random key stays the same.</summary>
    /// <param name="options">The options; read now, not kept.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options are not valid; those in force stay.</exception>
    public void Update(CursorPaginatorOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        _settings = Settings(options);
    }

    /// <summary>Looks at what a caller asks for.</summary>
    /// <typeparam name="T">A row.</typeparam>
    /// <param name="keyset">The order of the rows.</param>
    /// <param name="request">What is asked for.</param>
    /// <param name="scope">What else the cursor must be bound to: the tenant, the filter. Whatever it is, the page must be of the same rows whenever it is the same.</param>
    /// <returns>What a source needs to find the page.</returns>
    /// <exception cref="InvalidCursorException">The cursor is not one of this keyset and scope.</exception>
    /// <exception cref="InvalidPageSizeException">The size is negative, or above the maximum where such are refused.</exception>
    public KeysetRequest<T> Open<T>(Keyset<T> keyset, PageRequest request, string? scope = null)
    {
        ArgumentNullException.ThrowIfNull(keyset);
        CursorSettings settings = _settings;
        int size = request.Size == 0 ? settings.DefaultSize : request.Size;
        if (size < 0 || (size > settings.MaxSize && settings.RefuseOversized))
        {
            throw new InvalidPageSizeException(size, settings.MaxSize);
        }

        size = Math.Min(size, settings.MaxSize);
        long? totalLimit = request.Total switch
        {
            TotalKind.None => null,
            TotalKind.Exact => long.MaxValue,
            TotalKind.Capped => settings.TotalCap,
            _ => throw new ArgumentOutOfRangeException(nameof(request), request.Total, "The total must be None, Exact or Capped."),
        };
        if (request.Direction is PageDirection asked && !Enum.IsDefined(asked))
        {
            throw new ArgumentOutOfRangeException(nameof(request), asked, "The direction must be null, Forward or Backward.");
        }

        if (string.IsNullOrEmpty(request.Cursor))
        {
            return new KeysetRequest<T>(this, keyset, scope, size, request.Direction ?? PageDirection.Forward, totalLimit);
        }

        InvalidCursorReason? refusal = TryOpen(settings, keyset, request.Cursor, scope, out CursorPosition position);
        if (refusal is InvalidCursorReason reason)
        {
            Telemetry.CursorRefused(settings.Name, reason);
            throw new InvalidCursorException(reason);
        }

        return new KeysetRequest<T>(this, keyset, scope, size, request.Direction ?? position.Direction, totalLimit, position);
    }

    /// <summary>The cursor of what comes after a row, or before it. <see cref="KeysetRequest{T}.ToPage(IReadOnlyList{T}, bool)"/> makes those of a page.</summary>
    /// <typeparam name="T">A row.</typeparam>
    /// <param name="keyset">The order of the rows.</param>
    /// <param name="row">The row.</param>
    /// <param name="direction">Forward: what comes after it. Backward: what comes before it.</param>
    /// <param name="scope">As for <see cref="Open{T}"/>.</param>
    /// <returns>The cursor.</returns>
    /// <exception cref="KeyTooLongException">The cursor would be longer than allowed.</exception>
    public string Seal<T>(Keyset<T> keyset, T row, PageDirection direction, string? scope = null)
    {
        ArgumentNullException.ThrowIfNull(keyset);
        return Seal(keyset, new RowKeys<T>(row), direction, direction == PageDirection.Backward, scope);
    }

    internal string Seal<T, TSource>(Keyset<T> keyset, TSource source, PageDirection direction, bool before, string? scope)
        where TSource : struct, IKeySource<T>
    {
        CursorSettings settings = _settings;
        int context = CursorSeal.ContextLength(scope);
        int expiry = settings.ExpirySeconds > 0 ? sizeof(uint) : 0;
        int keys = keyset.LargestSize ?? Measure(keyset, source);
        int length = context + CursorSeal.HeadLength + expiry + keys + CursorSeal.TagLength;
        if (CharactersOf(length - context) > settings.MaxCursorLength)
        {
            throw TooLong(keyset, source, settings);
        }

        byte[]? rented = length > OnStack ? ArrayPool<byte>.Shared.Rent(length) : null;
        Span<byte> buffer = rented is null ? stackalloc byte[OnStack] : rented;
        CursorSeal.WriteContext(buffer, keyset.ShapeHash, scope);

        Span<byte> cursor = buffer[context..];
        cursor[0] = (byte)(CursorSeal.Version
            | (direction == PageDirection.Backward ? CursorSeal.BackwardFlag : 0)
            | (before ? CursorSeal.BeforeFlag : 0)
            | (expiry > 0 ? CursorSeal.ExpiryFlag : 0)
            | (settings.Encrypt ? CursorSeal.EncryptedFlag : 0));
        cursor[1] = settings.Sealing.Id;
        BinaryPrimitives.WriteUInt16LittleEndian(cursor[2..], CursorSeal.Hint(keyset.ShapeHash, scope));
        int at = CursorSeal.HeadLength;
        if (expiry > 0)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(cursor[at..], ExpiresAt(settings.ExpirySeconds));
            at += expiry;
        }

        foreach (KeysetColumn<T> column in keyset.Span)
        {
            at += source.Write(cursor[at..], column);
        }

        string text = settings.Sealing.Seal(buffer[..(context + at + CursorSeal.TagLength)], context, settings.Encrypt);
        if (rented is not null)
        {
            ArrayPool<byte>.Shared.Return(rented);
        }

        return text;
    }

    private static int Measure<T, TSource>(Keyset<T> keyset, TSource source)
        where TSource : struct, IKeySource<T>
    {
        int size = 0;
        foreach (KeysetColumn<T> column in keyset.Span)
        {
            size += source.Size(column);
        }

        return size;
    }

    private static KeyTooLongException TooLong<T, TSource>(Keyset<T> keyset, TSource source, CursorSettings settings)
        where TSource : struct, IKeySource<T>
    {
        KeysetColumn<T> longest = keyset.Columns.MaxBy(column => source.Size(column))!;
        return new KeyTooLongException(longest.Name, settings.MaxCursorLength);
    }

    private static int CharactersOf(int bytes) => ((8 * bytes) + 5) / 6;

    private InvalidCursorReason? TryOpen<T>(CursorSettings settings, Keyset<T> keyset, string text, string? scope, out CursorPosition position)
    {
        position = default;
        if (text.Length > settings.MaxCursorLength)
        {
            return InvalidCursorReason.TooLong;
        }

        int decoded = CursorSeal.DecodedLength(text.Length);
        if (decoded < CursorSeal.HeadLength + CursorSeal.TagLength)
        {
            return InvalidCursorReason.Malformed;
        }

        int context = CursorSeal.ContextLength(scope);
        int length = context + decoded;
        byte[]? rented = length > OnStack ? ArrayPool<byte>.Shared.Rent(length) : null;
        Span<byte> buffer = rented is null ? stackalloc byte[OnStack] : rented;
        InvalidCursorReason? refusal = TryOpen(settings, keyset, text, scope, buffer[..length], context, out position);
        if (rented is not null)
        {
            ArrayPool<byte>.Shared.Return(rented);
        }

        return refusal;
    }

    private InvalidCursorReason? TryOpen<T>(CursorSettings settings, Keyset<T> keyset, string text, string? scope, Span<byte> buffer, int context, out CursorPosition position)
    {
        position = default;
        Span<byte> cursor = buffer[context..];
        if (!CursorSeal.TryDecode(text, cursor))
        {
            return InvalidCursorReason.Malformed;
        }

        if ((cursor[0] & 0xF0) != CursorSeal.Version || settings.Find(cursor[1]) is not CursorSeal seal)
        {
            return InvalidCursorReason.UnknownKey;
        }

        CursorSeal.WriteContext(buffer, keyset.ShapeHash, scope);
        if (!seal.TryOpen(buffer, context))
        {
            return BinaryPrimitives.ReadUInt16LittleEndian(cursor[2..]) == CursorSeal.Hint(keyset.ShapeHash, scope) ? InvalidCursorReason.Altered : InvalidCursorReason.Foreign;
        }

        byte flags = cursor[0];
        ReadOnlySpan<byte> body = cursor[CursorSeal.HeadLength..^CursorSeal.TagLength];
        if ((flags & CursorSeal.ExpiryFlag) != 0)
        {
            if (body.Length < sizeof(uint))
            {
                return InvalidCursorReason.Malformed;
            }

            if (BinaryPrimitives.ReadUInt32LittleEndian(body) < Now())
            {
                return InvalidCursorReason.Expired;
            }

            body = body[sizeof(uint)..];
        }

        ReadOnlySpan<byte> rest = body;
        int nulls = 0;
        foreach (KeysetColumn<T> column in keyset.Span)
        {
            if (!column.Access.TryMeasure(rest, out int size, out bool isNull))
            {
                return InvalidCursorReason.Malformed;
            }

            nulls |= isNull ? 1 << column.Ordinal : 0;
            rest = rest[size..];
        }

        if (!rest.IsEmpty)
        {
            return InvalidCursorReason.Malformed;
        }

        position = new CursorPosition(
            (flags & CursorSeal.BackwardFlag) != 0 ? PageDirection.Backward : PageDirection.Forward,
            (flags & CursorSeal.BeforeFlag) != 0,
            nulls,
            new KeyBytes(body));
        return null;
    }

    /// <summary>The same for an eighth of the time, so that the same page gives the same cursor.</summary>
    private uint ExpiresAt(long seconds)
    {
        long step = Math.Max(1, seconds / 8);
        return (uint)Math.Clamp((Now() + seconds + step - 1) / step * step, 0, uint.MaxValue);
    }

    private long Now() => (_timeProvider.GetUtcNow() - Epoch).Ticks / TimeSpan.TicksPerSecond;

    private CursorSettings Settings(CursorPaginatorOptions options)
    {
        if (options.Keys.Count == 0 && _random is null)
        {
            _random = new CursorSeal(0, RandomNumberGenerator.GetBytes(32));
            if (_logger is not null)
            {
                Log.RandomKey(_logger, options.Name);
            }
        }

        return new CursorSettings(options, _random);
    }
}
