namespace Shop;

/// <summary>Applications of the tour's own.</summary>
internal static class Loopback
{
    /// <summary>A server on a free port that answers all requests alike.</summary>
    /// <param name="services">What it is made of, or null.</param>
    /// <param name="answer">Its last middleware.</param>
    /// <param name="use">What stands before that, or null.</param>
    public static async Task<WebApplication> StartAsync(Action<IServiceCollection>? services, RequestDelegate answer, Action<WebApplication>? use = null)
    {
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls("http://127.0.0.1:0");
        services?.Invoke(builder.Services);
        WebApplication app = builder.Build();
        use?.Invoke(app);
        app.Run(answer);
        await app.StartAsync();
        return app;
    }
}
