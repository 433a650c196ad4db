using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>The <c>webhook-signature</c> of Standard Webhooks over <c>id.timestamp.body</c>, one for each secret.</summary>
internal static class Signature
{
    public static string Of(IEnumerable<string> secrets, string id, long timestamp, ReadOnlySpan<byte> body)
    {
        byte[] head = Encoding.ASCII.GetBytes($"{id}.{timestamp.ToString(CultureInfo.InvariantCulture)}.");
        var signatures = new StringBuilder();
        Span<byte> hash = stackalloc byte[32];
        foreach (string secret in secrets)
        {
            byte[] key = Convert.FromBase64String(secret["whsec_".Length..]);
            using var hmac = IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, key);
            hmac.AppendData(head);
            hmac.AppendData(body);
            hmac.GetHashAndReset(hash);
            CryptographicOperations.ZeroMemory(key);
            signatures.Append(signatures.Length > 0 ? " v1," : "v1,").Append(Convert.ToBase64String(hash));
        }

        return signatures.ToString();
    }
}
