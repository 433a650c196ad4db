using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Security.Cryptography;

namespace Backend.Toolkit.Http;

/// <summary>The headers of WIRE.md, as the client writes and reads them.</summary>
internal static class Wire
{
    public const string TimeoutBudget = "Timeout-Budget";
    public const string RetryAttempt = "Retry-Attempt";
    public const string IdempotencyKey = "Idempotency-Key";
    public const string NoRetry = "No-Retry";

    private const int KeyBytes = 16;
    private const int KeysAtATime = 64;

    [ThreadStatic]
    private static byte[]? _random;

    [ThreadStatic]
    private static int _keysLeft;

    /// <summary>A fresh key: a version 4 UUID as an RFC 9651 string. The random bytes are fetched 64 keys at a time: asking the system for each costs a microsecond.</summary>
    public static string NewIdempotencyKey()
    {
        byte[] random = _random ??= new byte[KeysAtATime * KeyBytes];
        if (_keysLeft == 0)
        {
            RandomNumberGenerator.Fill(random);
            _keysLeft = KeysAtATime;
        }

        _keysLeft--;
        Span<byte> key = random.AsSpan(_keysLeft * KeyBytes, KeyBytes);
        key[6] = (byte)((key[6] & 0x0F) | 0x40);
        key[8] = (byte)((key[8] & 0x3F) | 0x80);
        return string.Create(38, new Guid(key, bigEndian: true), static (text, key) =>
        {
            text[0] = text[^1] = '"';
            key.TryFormat(text[1..], out _);
        });
    }

    /// <summary>As they are: nothing is parsed.</summary>
    public static void CopyHeaders(HttpContent from, HttpContent to)
    {
        foreach ((string name, HeaderStringValues values) in from.Headers.NonValidated)
        {
            if (values.Count == 1)
            {
                to.Headers.TryAddWithoutValidation(name, values.ToString());
            }
            else
            {
                to.Headers.TryAddWithoutValidation(name, values);
            }
        }
    }

    /// <summary>Whether there is no body to read, as far as can be told without parsing or computing anything.</summary>
    public static bool IsEmpty(HttpContent content) =>
        content.Headers.NonValidated.TryGetValues("Content-Length", out HeaderStringValues length) && length.ToString() == "0";

    /// <summary>Whether the server says that calling again is useless: on a 502, 503 or 504, one header with exactly <c>1</c>.</summary>
    public static bool SaysNoRetry(HttpResponseMessage response) =>
        response.StatusCode is HttpStatusCode.BadGateway or HttpStatusCode.ServiceUnavailable or HttpStatusCode.GatewayTimeout
        && response.Headers.NonValidated.TryGetValues(NoRetry, out HeaderStringValues values)
        && values.Count == 1
        && values.ToString() == "1";

    /// <summary>When the server wants to be asked again; null when it does not say, or says garbage. Never negative.</summary>
    public static TimeSpan? RetryAfter(HttpResponseMessage response, TimeProvider timeProvider)
    {
        if (!response.Headers.NonValidated.TryGetValues("Retry-After", out HeaderStringValues values) || values.Count != 1)
        {
            return null;
        }

        string text = values.ToString();
        if (!RetryConditionHeaderValue.TryParse(text, out RetryConditionHeaderValue? value))
        {
            // More seconds than the parser holds are no garbage: not in this call.
            ReadOnlySpan<char> digits = text.AsSpan().Trim(' ');
            return digits.IsEmpty || digits.ContainsAnyExceptInRange('0', '9') ? null : TimeSpan.MaxValue;
        }

        // The server's own clock, where it tells it: the two need not agree.
        TimeSpan wait = value.Delta ?? value.Date!.Value - (response.Headers.Date ?? timeProvider.GetUtcNow());
        return wait < TimeSpan.Zero ? TimeSpan.Zero : wait;
    }
}
