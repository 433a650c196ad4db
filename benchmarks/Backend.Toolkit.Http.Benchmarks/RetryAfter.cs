using System.Diagnostics;
using System.Net;
using Backend.Toolkit.Http;
using Microsoft.Extensions.DependencyInjection;

/// <summary>A server that answers 429 with <c>Retry-After: 60</c>, called with two seconds to spend.</summary>
internal static class RetryAfter
{
    public static async Task<int> RunAsync()
    {
        var services = new ServiceCollection();
        services.AddHttpClient("standard").ConfigurePrimaryHttpMessageHandler(() => new Busy()).RemoveAllLoggers()
            .AddStandardResilienceHandler(options => options.TotalRequestTimeout.Timeout = options.AttemptTimeout.Timeout = TimeSpan.FromSeconds(2));
        services.AddHttpClient("ours").ConfigurePrimaryHttpMessageHandler(() => new Busy()).RemoveAllLoggers()
            .AddOutboundPolicy(options => options.Budget!.Total = TimeSpan.FromSeconds(2));
        await using ServiceProvider provider = services.BuildServiceProvider();
        foreach (string name in (string[])["standard", "ours", "standard", "ours"])
        {
            using HttpClient client = provider.GetRequiredService<IHttpClientFactory>().CreateClient(name);
            var watch = Stopwatch.StartNew();
            string end;
            try
            {
                using HttpResponseMessage response = await client.GetAsync("http://busy.internal/");
                end = $"{(int)response.StatusCode}, Retry-After: {response.Headers.RetryAfter}";
            }
            catch (Exception exception)
            {
                end = exception.GetType().Name;
            }

            Console.WriteLine($"{name,-10} {watch.Elapsed.TotalMilliseconds,10:0.0} ms  {end}");
        }

        return 0;
    }

    private sealed class Busy : HttpMessageHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            var response = new HttpResponseMessage(HttpStatusCode.TooManyRequests);
            response.Headers.TryAddWithoutValidation("Retry-After", "60");
            return Task.FromResult(response);
        }
    }
}
